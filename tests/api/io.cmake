# Tests of what streams: archives, output, attach, exec.
set(io_sees base store tether/hub tether/wire api)
vic_test(api_tar_test SOURCES tar_test.c archive.c SEES ${io_sees} LIBS api PRIVATE api)
vic_fuzz(tar SOURCES fuzz_tar.c SEES base api LIBS api PRIVATE api)
if(TARGET test_guest AND TARGET vic-inflate)
  foreach(name attach exec load image)
    if(EXISTS ${CMAKE_CURRENT_LIST_DIR}/${name}_test.c)
      vic_test(api_${name}_test SOURCES ${name}_test.c io_fixture.c archive.c fixture.c host.c
               client.c SEES ${io_sees} LIBS api test_guest PRIVATE api)
      target_compile_definitions(api_${name}_test PRIVATE VIC_INFLATE="$<TARGET_FILE:vic-inflate>")
      add_dependencies(api_${name}_test vic-inflate)
    endif()
  endforeach()
endif()
