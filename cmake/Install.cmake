include(GNUInstallDirs)
include(CMakePackageConfigHelpers)

install(DIRECTORY include/gosset DESTINATION ${CMAKE_INSTALL_INCLUDEDIR})
install(TARGETS gosset EXPORT gosset_targets)
install(EXPORT gosset_targets FILE gosset-targets.cmake NAMESPACE gosset:: DESTINATION ${CMAKE_INSTALL_DATADIR}/cmake/gosset)
if(TARGET gosset_io)
  install(TARGETS gosset_io EXPORT gosset_io_targets)
  install(EXPORT gosset_io_targets FILE gosset-io-targets.cmake NAMESPACE gosset::
          DESTINATION ${CMAKE_INSTALL_DATADIR}/cmake/gosset)
endif()

configure_package_config_file(cmake/gosset-config.cmake.in ${PROJECT_BINARY_DIR}/gosset-config.cmake
                              INSTALL_DESTINATION ${CMAKE_INSTALL_DATADIR}/cmake/gosset)
write_basic_package_version_file(${PROJECT_BINARY_DIR}/gosset-config-version.cmake COMPATIBILITY SameMinorVersion
                                 ARCH_INDEPENDENT)
install(FILES ${PROJECT_BINARY_DIR}/gosset-config.cmake ${PROJECT_BINARY_DIR}/gosset-config-version.cmake
              cmake/FindEigen.cmake
        DESTINATION ${CMAKE_INSTALL_DATADIR}/cmake/gosset)
