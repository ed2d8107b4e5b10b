// SPDX-License-Identifier: Apache-2.0
#pragma once

// All of gosset but gosset/io, which reads and writes files and is included by its own name.
#include <gosset/calibration.hpp>
#include <gosset/codebook.hpp>
#include <gosset/core.hpp>
#include <gosset/entropy.hpp>
#include <gosset/format.hpp>
#include <gosset/hadamard.hpp>
#include <gosset/kv.hpp>
#include <gosset/matrix.hpp>
#include <gosset/rounding.hpp>
#include <gosset/scale.hpp>
#include <gosset/theory.hpp>
#include <gosset/train.hpp>
#include <gosset/version.hpp>
