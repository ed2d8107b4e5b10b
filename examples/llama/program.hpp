// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <CLI/CLI.hpp>

#include <cstdlib>
#include <exception>
#include <iostream>

// What the programs' main functions have in common.
namespace llama {

/// Fills what the options of `app` are bound to. Ends the program where the arguments are wrong, with the error on the
/// standard error, or where they ask for help.
inline void parseArguments(CLI::App& app, int argc, char** argv) {
  try {
    app.parse(argc, argv);
  } catch (const CLI::ParseError& error) {
    std::exit(app.exit(error));
  }
}

/// The exit code of a program: 0, or 1 where run() throws, whose error goes to the standard error behind the program's
/// name.
template <class Run>
int runProgram(const char* name, Run&& run) {
  try {
    run();
    return 0;
  } catch (const std::exception& error) {
    std::cerr << name << ": " << error.what() << '\n';
    return 1;
  }
}

}  // namespace llama
