# The hub's tests.  test_guest (guest.h) plays a guest without a VM; other rooms' tests and the
# benches link it too.
if(TARGET hub)
  vic_room(test_guest SOURCES ${CMAKE_CURRENT_LIST_DIR}/guest.c ${CMAKE_CURRENT_LIST_DIR}/player.c
           SEES base tether/wire LIBS tether_wire)
  target_include_directories(test_guest INTERFACE ${CMAKE_CURRENT_LIST_DIR})
  foreach(name hub hub_stream hub_hostile)
    if(EXISTS ${CMAKE_CURRENT_LIST_DIR}/${name}_test.c)
      vic_test(tether_${name}_test SOURCES ${name}_test.c hub_fixture.c
               SEES base tether/wire tether/hub LIBS hub test_guest)
    endif()
  endforeach()
  vic_fuzz(hub SOURCES fuzz_hub.c SEES base tether/wire tether/hub LIBS hub PRIVATE tether/hub)
endif()
