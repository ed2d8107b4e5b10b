# For gosset's own programs only: nothing here reaches the exported targets.
add_library(gosset_developer INTERFACE)
target_compile_options(gosset_developer INTERFACE -Wall -Wextra -Wconversion -Wshadow)
if(GOSSET_WERROR)
  target_compile_options(gosset_developer INTERFACE -Werror)
endif()
if(GOSSET_NATIVE)
  target_compile_options(gosset_developer INTERFACE -march=native)
  if(CMAKE_CXX_COMPILER_ID STREQUAL "GNU" AND CMAKE_CXX_COMPILER_VERSION VERSION_LESS 13)
    # Its own AVX-512 intrinsics warn (GCC bug 105593) wherever Eigen uses them. Portable builds keep the warning.
    target_compile_options(gosset_developer INTERFACE -Wno-maybe-uninitialized -Wno-uninitialized)
  endif()
endif()

find_package(OpenMP QUIET COMPONENTS CXX)
if(OpenMP_CXX_FOUND)
  target_link_libraries(gosset_developer INTERFACE OpenMP::OpenMP_CXX)
endif()
