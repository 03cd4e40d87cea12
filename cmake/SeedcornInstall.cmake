# What `cmake --install` lays out: libraries, headers, the tool, pkg-config and the CMake package.
install(TARGETS seedcorn_shared seedcorn_tool
        RUNTIME DESTINATION ${CMAKE_INSTALL_BINDIR}
        LIBRARY DESTINATION ${CMAKE_INSTALL_LIBDIR})
install(FILES ${SC_STATIC_LIBRARY} DESTINATION ${CMAKE_INSTALL_LIBDIR})
install(DIRECTORY ${PROJECT_SOURCE_DIR}/include/seedcorn DESTINATION ${CMAKE_INSTALL_INCLUDEDIR})
install(FILES LICENSE NOTICE README.md DESTINATION ${CMAKE_INSTALL_DOCDIR})

configure_file(cmake/seedcorn.pc.in seedcorn.pc @ONLY)
install(FILES ${PROJECT_BINARY_DIR}/seedcorn.pc DESTINATION ${CMAKE_INSTALL_LIBDIR}/pkgconfig)

configure_package_config_file(cmake/SeedcornConfig.cmake.in SeedcornConfig.cmake
                              INSTALL_DESTINATION ${CMAKE_INSTALL_LIBDIR}/cmake/Seedcorn
                              PATH_VARS CMAKE_INSTALL_INCLUDEDIR CMAKE_INSTALL_LIBDIR)
write_basic_package_version_file(SeedcornConfigVersion.cmake COMPATIBILITY SameMinorVersion)
install(FILES ${PROJECT_BINARY_DIR}/SeedcornConfig.cmake ${PROJECT_BINARY_DIR}/SeedcornConfigVersion.cmake
        DESTINATION ${CMAKE_INSTALL_LIBDIR}/cmake/Seedcorn)

# Into the Python package (pyproject.toml): the one library, under one name, and beside it the plug-in, where nvcc is.
if(SKBUILD)
  install(FILES $<TARGET_FILE:seedcorn_shared> RENAME libseedcorn.so DESTINATION seedcorn COMPONENT python)
  if(TARGET seedcorn_cuda)
    add_dependencies(seedcorn_shared seedcorn_cuda)
    install(TARGETS seedcorn_cuda LIBRARY DESTINATION seedcorn COMPONENT python)
  endif()
endif()
