# One static library per folder of src/, linked only against the floors below it: an include or a
# call that climbs fails here, and again in tests/house.
set(SC_WARNINGS -Wall -Wextra -Wshadow -Wpointer-arith -Wundef -Wvla)
set(SC_C_WARNINGS ${SC_WARNINGS} -Wstrict-prototypes -Wmissing-prototypes)
if(CMAKE_C_COMPILER_ID STREQUAL GNU)
  # gcc cannot know that sc_fail() never returns SC_OK; clang-tidy's analyzer follows the paths instead.
  list(APPEND SC_WARNINGS -Wno-maybe-uninitialized)
  list(APPEND SC_C_WARNINGS -Wno-maybe-uninitialized)
endif()
if(SC_SANITIZE)
  # The instrumentation hides sizes from gcc, which then warns of overflows that cannot happen.
  list(APPEND SC_WARNINGS -Wno-stringop-overflow -Wno-array-bounds)
  list(APPEND SC_C_WARNINGS -Wno-stringop-overflow -Wno-array-bounds)
endif()
if(SC_WERROR)
  list(APPEND SC_WARNINGS -Werror)
  list(APPEND SC_C_WARNINGS -Werror)
endif()
# What only OpenMP's pragmas use is unused without them.
set(SC_NO_OPENMP_WARNINGS -Wno-unknown-pragmas -Wno-unused-variable -Wno-unused-but-set-variable -Wno-unused-parameter
                          -Wno-unused-function)

add_library(sc_flags INTERFACE)
target_compile_definitions(sc_flags INTERFACE _GNU_SOURCE SC_BUILD SC_VERSION="${PROJECT_VERSION}")
target_include_directories(sc_flags INTERFACE ${PROJECT_SOURCE_DIR}/include ${PROJECT_SOURCE_DIR}/src)
target_link_libraries(sc_flags INTERFACE Threads::Threads m)
# -ffp-contract=off: the same source gives the same bits whatever the compiler fuses.
target_compile_options(sc_flags INTERFACE -ffp-contract=off)
if(SC_SANITIZE)
  target_compile_options(sc_flags INTERFACE -fsanitize=${SC_SANITIZE} -fno-omit-frame-pointer
                         -fno-sanitize-recover=all)
  target_link_options(sc_flags INTERFACE -fsanitize=${SC_SANITIZE})
endif()

# sc_floor(name USES lower... LIBS external...)
function(sc_floor name)
  cmake_parse_arguments(ARG "" "" "USES;LIBS" ${ARGN})
  file(GLOB_RECURSE sources CONFIGURE_DEPENDS ${PROJECT_SOURCE_DIR}/src/${name}/*.c)
  list(FILTER sources EXCLUDE REGEX "/cli/main\\.c$")
  if(NOT sources)
    return()
  endif()
  add_library(sc_${name} STATIC ${sources})
  target_compile_options(sc_${name} PRIVATE ${SC_C_WARNINGS})
  target_link_libraries(sc_${name} PUBLIC sc_flags ${ARG_LIBS})
  if(SC_OPENMP)
    target_link_libraries(sc_${name} PUBLIC OpenMP::OpenMP_C)
  else()
    target_compile_options(sc_${name} PRIVATE ${SC_NO_OPENMP_WARNINGS})
  endif()
  foreach(lower ${ARG_USES})
    if(TARGET sc_${lower})
      target_link_libraries(sc_${name} PUBLIC sc_${lower})
    endif()
  endforeach()
endfunction()

# libseedcorn: every floor but cli in one shared and one static library. Internal symbols are hidden in
# the first by visibility; in the second they are made local after a partial link, so that nothing but
# sc_* can clash with a program's own names.
function(sc_library)
  set(floors base formats text data net device model distributed evaluate select train synthesis pipeline)
  set(objects)
  set(archives)
  foreach(floor ${floors})
    if(TARGET sc_${floor})
      list(APPEND archives sc_${floor})
    endif()
  endforeach()
  file(WRITE ${PROJECT_BINARY_DIR}/empty.c "typedef int seedcorn_has_no_code_here;\n")
  add_library(seedcorn_shared SHARED ${PROJECT_BINARY_DIR}/empty.c)
  target_link_libraries(seedcorn_shared PRIVATE -Wl,--whole-archive ${archives} -Wl,--no-whole-archive)
  set_target_properties(seedcorn_shared PROPERTIES OUTPUT_NAME seedcorn VERSION ${PROJECT_VERSION}
                        SOVERSION ${PROJECT_VERSION_MAJOR})
  target_include_directories(seedcorn_shared INTERFACE ${PROJECT_SOURCE_DIR}/include)

  set(files)
  foreach(archive ${archives})
    list(APPEND files $<TARGET_FILE:${archive}>)
  endforeach()
  set(SC_STATIC_LIBRARY ${PROJECT_BINARY_DIR}/libseedcorn.a PARENT_SCOPE)
  add_custom_command(
    OUTPUT ${PROJECT_BINARY_DIR}/libseedcorn.a
    COMMAND ${CMAKE_LINKER} -r -o seedcorn.o --whole-archive ${files}
    COMMAND ${CMAKE_OBJCOPY} --localize-hidden seedcorn.o
    COMMAND ${CMAKE_COMMAND} -E rm -f libseedcorn.a
    COMMAND ${CMAKE_AR} rcs libseedcorn.a seedcorn.o
    DEPENDS ${archives} WORKING_DIRECTORY ${PROJECT_BINARY_DIR} VERBATIM)
  add_custom_target(seedcorn_static ALL DEPENDS ${PROJECT_BINARY_DIR}/libseedcorn.a)
endfunction()
