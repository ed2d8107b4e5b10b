// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <gosset/train/fake_quant.hpp>
#include <gosset/train/learned_step.hpp>
