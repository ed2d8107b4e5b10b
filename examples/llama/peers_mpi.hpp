// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "peers.hpp"

#include <memory>

namespace llama {

/// The processes that `mpirun -n N` has started, or this one alone; what is in a program that was built without MPI,
/// which then stops under mpirun: its processes would know nothing of each other.
std::unique_ptr<Peers> startPeers(int& argc, char**& argv);

/// Ends all of them where one cannot go on.
[[noreturn]] void stopPeers();

}  // namespace llama
