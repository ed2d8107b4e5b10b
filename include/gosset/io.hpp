// SPDX-License-Identifier: Apache-2.0
#pragma once

// Files. Needs POSIX and nlohmann_json (target gosset::io); gosset.hpp does not include it.
#include <gosset/io/atomic_file.hpp>
#include <gosset/io/dtype.hpp>
#include <gosset/io/float8.hpp>
#include <gosset/io/gguf.hpp>
#include <gosset/io/gguf_quantized.hpp>
#include <gosset/io/gguf_writer.hpp>
#include <gosset/io/hessian.hpp>
#include <gosset/io/imatrix.hpp>
#include <gosset/io/integer_formats.hpp>
#include <gosset/io/integer_scheme.hpp>
#include <gosset/io/integer_weights.hpp>
#include <gosset/io/json.hpp>
#include <gosset/io/kv_cache.hpp>
#include <gosset/io/mapped_file.hpp>
#include <gosset/io/quantized.hpp>
#include <gosset/io/safetensors.hpp>
#include <gosset/io/safetensors_folder.hpp>
