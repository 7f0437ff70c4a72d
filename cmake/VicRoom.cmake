# The walls of the house.
#
# A room is a static library whose include path is build/doors/<target>/: a folder of links to just
# the doors that it may see.  VIC_DOORS_<room> is the one list of each room's public headers; the
# globs are relative to the source tree.  Private headers are included with a bare name, which the
# compiler looks for beside the including file and nowhere else.
set(VIC_DOORS_base base/*.h base/*.def)
set(VIC_DOORS_store store/store.h store/logs.h store/spool.h store/record.h store/record.def store/enums.def)
set(VIC_DOORS_vsphere vsphere/vsphere.h vsphere/vim.h vsphere/soap.h)
set(VIC_DOORS_vsphere_vim vsphere/vim.h vsphere/soap.h)
set(VIC_DOORS_tether_wire tether/wire.h)
set(VIC_DOORS_tether_hub tether/hub.h)
set(VIC_DOORS_tether tether/wire.h tether/hub.h)
set(VIC_DOORS_control control/control.h)
set(VIC_DOORS_control_image control/image/image.h)
set(VIC_DOORS_api api/api.h)

# vic_doors(target SEES room...): makes build/doors/<target>/ and puts it on the include path.
# A door that is generated stands in build/<path> instead of the source tree.
function(vic_doors target)
  cmake_parse_arguments(A "" "" "SEES" ${ARGN})
  set(dir ${CMAKE_BINARY_DIR}/doors/${target})
  file(REMOVE_RECURSE ${dir})
  foreach(room ${A_SEES})
    string(REPLACE "/" "_" key ${room})
    if(NOT DEFINED VIC_DOORS_${key})
      message(FATAL_ERROR "vic_doors(${target}): no room is called ${room}")
    endif()
    foreach(pattern ${VIC_DOORS_${key}})
      file(GLOB found RELATIVE ${CMAKE_SOURCE_DIR} CONFIGURE_DEPENDS ${CMAKE_SOURCE_DIR}/${pattern})
      list(FILTER found EXCLUDE REGEX "_priv[.]h$") # a room's own, though it matches base's glob
      if(found)
        set(root ${CMAKE_SOURCE_DIR})
      else()
        set(root ${CMAKE_BINARY_DIR})
        set(found ${pattern})
        if(pattern MATCHES "[*]")
          continue()
        endif()
      endif()
      foreach(door ${found})
        get_filename_component(sub ${door} DIRECTORY)
        file(MAKE_DIRECTORY ${dir}/${sub})
        file(CREATE_LINK ${root}/${door} ${dir}/${door} SYMBOLIC)
      endforeach()
    endforeach()
  endforeach()
  target_include_directories(${target} PRIVATE ${dir})
endfunction()

# vic_room(name SOURCES file... SEES room... [LIBS lib...]): a room, as a static library.
function(vic_room name)
  cmake_parse_arguments(A "" "" "SOURCES;SEES;LIBS" ${ARGN})
  add_library(${name} STATIC ${A_SOURCES})
  target_link_libraries(${name} PUBLIC vic_flags ${A_LIBS})
  vic_doors(${name} SEES ${A_SEES})
endfunction()

# vic_program(name SOURCES file... SEES room... [LIBS lib...]): a program.
function(vic_program name)
  cmake_parse_arguments(A "" "" "SOURCES;SEES;LIBS" ${ARGN})
  add_executable(${name} ${A_SOURCES})
  target_link_libraries(${name} PRIVATE vic_flags ${A_LIBS})
  vic_doors(${name} SEES ${A_SEES})
  set_target_properties(${name} PROPERTIES RUNTIME_OUTPUT_DIRECTORY ${CMAKE_BINARY_DIR}/bin)
endfunction()

# vic_test(name SOURCES file... SEES room... LIBS lib... [PRIVATE dir]): a cmocka test, run by ctest.
# A test of a room's private parts names the room's folder with PRIVATE.
function(vic_test name)
  cmake_parse_arguments(A "" "PRIVATE" "SOURCES;SEES;LIBS" ${ARGN})
  add_executable(${name} ${A_SOURCES})
  target_link_libraries(${name} PRIVATE vic_flags ${A_LIBS} cmocka)
  vic_doors(${name} SEES ${A_SEES})
  if(A_PRIVATE)
    target_include_directories(${name} PRIVATE ${CMAKE_SOURCE_DIR}/${A_PRIVATE})
  endif()
  set_target_properties(${name} PROPERTIES RUNTIME_OUTPUT_DIRECTORY ${CMAKE_BINARY_DIR}/tests)
  add_test(NAME ${name} COMMAND ${name})
  set_tests_properties(${name} PROPERTIES TIMEOUT 120)
endfunction()

# vic_fuzz(name SOURCES file... SEES room... LIBS lib... [PRIVATE dir]): one byte-eater.  With
# VIC_FUZZ (clang) it is a libFuzzer target; always it is a plain test that replays
# tests/fuzz/<name>/, the corpus.
function(vic_fuzz name)
  cmake_parse_arguments(A "" "PRIVATE" "SOURCES;SEES;LIBS" ${ARGN})
  set(corpus ${CMAKE_SOURCE_DIR}/tests/fuzz/${name})
  add_executable(fuzz_${name} ${A_SOURCES})
  target_link_libraries(fuzz_${name} PRIVATE vic_flags ${A_LIBS})
  vic_doors(fuzz_${name} SEES ${A_SEES})
  if(A_PRIVATE)
    target_include_directories(fuzz_${name} PRIVATE ${CMAKE_SOURCE_DIR}/${A_PRIVATE})
  endif()
  if(VIC_FUZZ)
    target_link_options(fuzz_${name} PRIVATE -fsanitize=fuzzer)
    set(args -runs=0 ${corpus})
  else()
    target_sources(fuzz_${name} PRIVATE ${CMAKE_SOURCE_DIR}/tests/fuzz/replay.c)
    set(args ${corpus})
  endif()
  set_target_properties(fuzz_${name} PROPERTIES RUNTIME_OUTPUT_DIRECTORY ${CMAKE_BINARY_DIR}/tests)
  add_test(NAME fuzz_${name} COMMAND fuzz_${name} ${args})
  set_tests_properties(fuzz_${name} PROPERTIES TIMEOUT 120)
endfunction()
