# The agent's tests: its parts as a dynamic build, the static binary, the boot image, real guests.
set(here ${CMAKE_CURRENT_LIST_DIR})
if(TARGET tether_agent)
  foreach(name parts layer launch)
    if(EXISTS ${here}/${name}_test.c)
      vic_test(tether_${name}_test SOURCES ${name}_test.c SEES base tether/wire LIBS tether_agent
               PRIVATE tether/agent)
    endif()
  endforeach()
  foreach(name layer spec)
    if(EXISTS ${here}/fuzz_${name}.c)
      vic_fuzz(${name} SOURCES fuzz_${name}.c SEES base tether/wire LIBS tether_agent
               PRIVATE tether/agent)
    endif()
  endforeach()
  add_test(NAME tether_static_test COMMAND sh ${here}/static_test.sh $<TARGET_FILE:tether>)
endif()
if(TARGET bootstrap_iso AND TARGET hub)
  add_test(NAME isoimage_reproducible_test
           COMMAND sh ${here}/reproducible_test.sh
                   ${CMAKE_SOURCE_DIR}/isoimage/bootimage.py $<TARGET_FILE:tether>
                   ${VIC_BOOT_CACHE} ${CMAKE_BINARY_DIR}/isoimage/bootstrap.iso)
  vic_test(tether_guest_test SOURCES guest_test.c vm.c hub_fixture.c
           SEES base tether/wire tether/hub LIBS hub test_guest archive)
  add_dependencies(tether_guest_test bootstrap_iso)
  set_tests_properties(tether_guest_test PROPERTIES TIMEOUT 400 RUN_SERIAL ON
                       ENVIRONMENT "VIC_BOOT_DIR=${CMAKE_BINARY_DIR}/isoimage")
endif()
