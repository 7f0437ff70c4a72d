# What tools/bench measures attach against: a guest with one plain TLS stream, and its sink.
if(TARGET tether AND TARGET base_loop)
  get_target_property(parts tether SOURCES)
  list(FILTER parts INCLUDE REGEX "/(base/.*|agent/(boot|files|guestinfo|backdoor|net))[.]c$")
  add_executable(stream_guest EXCLUDE_FROM_ALL stream_guest.c ${parts})
  vic_doors(stream_guest SEES base tether/wire)
  target_include_directories(stream_guest PRIVATE ${CMAKE_SOURCE_DIR}/tether/agent)
  target_compile_definitions(stream_guest PRIVATE _GNU_SOURCE VIC_VERSION="${PROJECT_VERSION}")
  target_compile_options(stream_guest PRIVATE ${VIC_WARNINGS} -Wno-null-dereference -Os
                         -fno-strict-aliasing -ffunction-sections -fdata-sections)
  target_link_options(stream_guest PRIVATE -static -Wl,--gc-sections -s)
  target_link_libraries(stream_guest PRIVATE wolfssl archive z zstd m)
  vic_program(stream_sink SOURCES stream_sink.c SEES base LIBS base_loop)
  set(bench_iso ${CMAKE_BINARY_DIR}/isoimage/bench/bootstrap.iso)
  add_custom_command(OUTPUT ${bench_iso}
    COMMAND python3 ${CMAKE_SOURCE_DIR}/isoimage/bootimage.py --tether $<TARGET_FILE:stream_guest>
            --cache ${VIC_BOOT_CACHE} --out ${bench_iso}
    DEPENDS stream_guest ${CMAKE_SOURCE_DIR}/isoimage/bootimage.py
    COMMENT "Making the bench's boot image")
  add_custom_target(bench_iso DEPENDS ${bench_iso})
endif()
