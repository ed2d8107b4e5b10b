# No version request accepts both Eigen 3.4 and Eigen 5, so find any and compare by hand. The package config uses this too.
if(NOT TARGET Eigen3::Eigen)
  find_package(Eigen3 CONFIG REQUIRED)
endif()
if(DEFINED Eigen3_VERSION AND Eigen3_VERSION VERSION_LESS 3.4)
  message(FATAL_ERROR "gosset needs Eigen 3.4 or newer, found ${Eigen3_VERSION}")
endif()
