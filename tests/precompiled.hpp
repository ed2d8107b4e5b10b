// SPDX-License-Identifier: Apache-2.0
#pragma once

// What nearly every test includes anyway, compiled once for all of them.
#ifndef EIGEN_RUNTIME_NO_MALLOC  // a test may forbid Eigen's allocations
#define EIGEN_RUNTIME_NO_MALLOC
#endif
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <Eigen/Core>

#include <filesystem>
#include <functional>
#include <sstream>
#include <string>
#include <variant>
#include <vector>
