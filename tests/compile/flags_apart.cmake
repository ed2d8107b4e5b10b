cmake_minimum_required(VERSION 3.22)

# Of gosset no function stands in both of two object files, for a linker would keep one of them:
#
#   cmake -DNM=nm -DFIRST=a.o -DSECOND=b.o -P flags_apart.cmake
foreach(file FIRST SECOND)
  execute_process(COMMAND ${NM} -C --defined-only ${${file}} OUTPUT_VARIABLE symbols COMMAND_ERROR_IS_FATAL ANY)
  string(REPLACE ";" "," symbols "${symbols}")
  string(REGEX REPLACE "[][]" "_" symbols "${symbols}")  # which lists of cmake would keep together
  string(REGEX MATCHALL "[^\n]+" lines "${symbols}")
  list(FILTER lines INCLUDE REGEX " [A-Z] .*gosset::")  # those that other files see
  list(TRANSFORM lines REPLACE "^[0-9a-f]* [A-Z] " "")
  list(REMOVE_DUPLICATES lines)
  list(LENGTH lines count)
  if(count LESS 50)
    message(FATAL_ERROR "only ${count} functions of gosset were found in ${${file}}")
  endif()
  set(${file}_lines "${lines}")
endforeach()
set(shared)
foreach(line IN LISTS FIRST_lines)
  if(line IN_LIST SECOND_lines)
    list(APPEND shared "${line}")
  endif()
endforeach()
if(shared)
  list(JOIN shared "\n" shared)
  message(FATAL_ERROR "functions that both files have:\n${shared}")
endif()
message(STATUS "${count} functions, and none of them in both")
