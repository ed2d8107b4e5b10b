// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "block_report.hpp"
#include "packed_file.hpp"
#include "peers.hpp"

#include <algorithm>
#include <filesystem>
#include <limits>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

// Experts are independent of each other: each is calibrated and packed by one process alone, and no other gets its
// Hessians. What a process has packed it hands to the first one, which writes the model, in a file of the working
// folder, which all of them see.
namespace llama {

/// The process whose expert a layer is part of; nothing of other layers.
inline std::optional<Index> expertOwner(const std::string& layer, Index processes) {
  constexpr std::string_view kExperts = ".experts.";
  const std::size_t at = layer.find(kExperts);
  if (at == std::string::npos) return std::nullopt;
  return std::stoll(layer.substr(at + kExperts.size())) % processes;
}

/// A matrix, and where it is or is to be.
struct ExpertMatrix {
  LinearInfo info;
  std::string format;  ///< as the command line has it
  gosset::AnyMatrix* packed = nullptr;
};

class ExpertExchange {
 public:
  ExpertExchange(std::filesystem::path folder, const Peers& peers) : folder_(std::move(folder)), peers_(peers) {}

  /// Files that a run which was killed has left.
  static void removeOld(const std::filesystem::path& folder) {
    std::vector<std::filesystem::path> old;
    for (const auto& entry : std::filesystem::directory_iterator(folder)) {
      if (entry.path().filename().string().starts_with(kName)) old.push_back(entry.path());
    }
    for (const std::filesystem::path& path : old) std::filesystem::remove(path);
  }

  /// All processes call this with all experts' matrices of a block, of which each has packed its own. Behind it the
  /// first process has them all, and in its report, behind its own, those of the others.
  void collect(const std::vector<ExpertMatrix>& matrices, BlockReport& report) const {
    if (matrices.empty()) return;
    if (!peers_.first()) give(matrices, report);
    peers_.wait();
    if (!peers_.first()) return;
    for (Index rank = 1; rank < peers_.count(); ++rank) take(rank, matrices, report);
  }

 private:
  static constexpr const char* kName = "experts-";
  static constexpr const char* kReport = "quantize.report";

  std::filesystem::path path(Index rank) const { return folder_ / (kName + std::to_string(rank) + ".safetensors"); }

  void give(const std::vector<ExpertMatrix>& matrices, const BlockReport& report) const {
    gosset::SafetensorsWriter writer;
    nlohmann::ordered_json rows;
    for (const ExpertMatrix& matrix : matrices) {
      if (expertOwner(matrix.info.name, peers_.count()) != peers_.rank()) continue;
      detail::addMatrix(writer, matrix.info.name, *matrix.packed);
      const auto row = std::find_if(report.linears.begin(), report.linears.end(),
                                    [&](const PackedLinear& one) { return one.name == matrix.info.name; });
      rows[matrix.info.name] = {row->sqnr, row->seconds};  // JSON has no infinity: null
    }
    writer.setMetadata(kReport, nlohmann::ordered_json{{"matrices", rows}, {"starved", report.starved}}.dump());
    writer.write(path(peers_.rank()));
  }

  void take(Index rank, const std::vector<ExpertMatrix>& matrices, BlockReport& report) const {
    const gosset::SafetensorsFile file(path(rank));
    const nlohmann::json theirs = gosset::parseJson(file.metadata().at(kReport), file.path().string());
    for (const ExpertMatrix& matrix : matrices) {
      if (expertOwner(matrix.info.name, peers_.count()) != rank) continue;
      *matrix.packed = detail::readWeights(file, matrix.info);
      const nlohmann::json& row = theirs.at("matrices").at(matrix.info.name);
      const double sqnr = row[0].is_null() ? std::numeric_limits<double>::infinity() : row[0].get<double>();
      report.linears.push_back({matrix.info.name, matrix.format, matrix.packed->bitsPerWeight(), sqnr,
                                matrix.info.rows * matrix.info.cols, matrix.packed->bytes(), row[1].get<double>()});
    }
    for (const nlohmann::json& name : theirs.at("starved")) report.starved.push_back(name.get<std::string>());
    std::filesystem::remove(path(rank));
  }

  std::filesystem::path folder_;
  const Peers& peers_;
};

}  // namespace llama
