// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <gosset/entropy/archive.hpp>
#include <gosset/entropy/code_entropy.hpp>
#include <gosset/entropy/rans.hpp>
