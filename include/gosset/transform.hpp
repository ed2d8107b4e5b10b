// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <gosset/transform/change_of_basis.hpp>
#include <gosset/transform/channel_scaled.hpp>
#include <gosset/transform/hadamard.hpp>
#include <gosset/transform/hadamard_matrix.hpp>
#include <gosset/transform/incoherence_measure.hpp>
#include <gosset/transform/incoherent.hpp>
#include <gosset/transform/random_signs.hpp>
