// SPDX-License-Identifier: Apache-2.0
#include "peers_mpi.hpp"

#ifdef GOSSET_LLAMA_MPI
#define OMPI_SKIP_MPICXX 1
#include <mpi.h>
#endif

#include <algorithm>
#include <cstdlib>
#include <stdexcept>

namespace llama {

#ifdef GOSSET_LLAMA_MPI

namespace {

class MpiPeers final : public Peers {
 public:
  MpiPeers(int& argc, char**& argv) {
    MPI_Init(&argc, &argv);
    MPI_Comm_size(MPI_COMM_WORLD, &count_);
    MPI_Comm_rank(MPI_COMM_WORLD, &rank_);
  }
  ~MpiPeers() override { MPI_Finalize(); }

  Index count() const override { return count_; }
  Index rank() const override { return rank_; }
  void wait() const override { MPI_Barrier(MPI_COMM_WORLD); }

  /// Piece by piece, as MPI counts in 31 bits.
  void share(std::span<std::byte> all, const std::vector<std::size_t>& ends) const override {
    constexpr std::size_t kMost = std::size_t{1} << 30;
    std::size_t begin = 0;
    for (int owner = 0; owner < count_; ++owner) {
      for (const std::size_t end = ends[static_cast<std::size_t>(owner)]; begin < end;) {
        const std::size_t size = std::min(kMost, end - begin);
        MPI_Bcast(all.data() + begin, static_cast<int>(size), MPI_BYTE, owner, MPI_COMM_WORLD);
        begin += size;
      }
    }
  }

 private:
  int count_ = 1, rank_ = 0;
};

}  // namespace

std::unique_ptr<Peers> startPeers(int& argc, char**& argv) {
  // Through neither mpirun nor srun, a process is alone, and MPI need not start.
  const bool alone = std::getenv("OMPI_COMM_WORLD_SIZE") == nullptr && std::getenv("PMI_SIZE") == nullptr &&
                     std::getenv("PMIX_RANK") == nullptr;
  if (alone) return std::make_unique<Alone>();
  return std::make_unique<MpiPeers>(argc, argv);
}

void stopPeers() {
  int started = 0;
  MPI_Initialized(&started);
  if (started != 0) MPI_Abort(MPI_COMM_WORLD, 1);
  std::exit(1);
}

#else

std::unique_ptr<Peers> startPeers(int&, char**&) {
  for (const char* name : {"OMPI_COMM_WORLD_SIZE", "PMI_SIZE", "SLURM_STEP_NUM_TASKS"}) {
    const char* size = std::getenv(name);
    if (size != nullptr && std::atoi(size) > 1) {
      throw std::runtime_error("mpirun started several processes, and this program was built without MPI");
    }
  }
  return std::make_unique<Alone>();
}

void stopPeers() { std::exit(1); }

#endif

}  // namespace llama
