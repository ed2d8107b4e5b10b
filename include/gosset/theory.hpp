// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <gosset/theory/distortion.hpp>
#include <gosset/theory/gaussian_quantizers.hpp>
#include <gosset/theory/lattice.hpp>
#include <gosset/theory/proxy_loss.hpp>
#include <gosset/theory/rate_distortion.hpp>
