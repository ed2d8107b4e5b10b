// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <gosset/kv/attention.hpp>
#include <gosset/kv/batch.hpp>
#include <gosset/kv/formats.hpp>
#include <gosset/kv/kv_cache.hpp>
#include <gosset/kv/online_softmax.hpp>
#include <gosset/kv/plain_tokens.hpp>
#include <gosset/kv/presets.hpp>
#include <gosset/kv/recommend.hpp>
#include <gosset/kv/rotation.hpp>
#include <gosset/kv/scores.hpp>
#include <gosset/kv/shape.hpp>
#include <gosset/kv/shared_heads.hpp>
#include <gosset/kv/staging.hpp>
#include <gosset/kv/stream.hpp>
#include <gosset/kv/timeline.hpp>
#include <gosset/kv/workspace.hpp>
