# Runs PROGRAM and compares what it prints with the comment at the end of SOURCE:
#   /* Prints:
#   ...
#   */
execute_process(COMMAND ${PROGRAM} RESULT_VARIABLE result OUTPUT_VARIABLE printed)
if(NOT result EQUAL 0)
  message(FATAL_ERROR "${PROGRAM} ended with ${result}:\n${printed}")
endif()

file(READ ${SOURCE} text)
set(begin "/* Prints:\n")
string(FIND "${text}" "${begin}" at)
if(at EQUAL -1)
  message(FATAL_ERROR "${SOURCE} does not say what it prints")
endif()
string(LENGTH "${begin}" length)
math(EXPR at "${at} + ${length}")
string(SUBSTRING "${text}" ${at} -1 expected)
string(REGEX REPLACE "\\*/\n$" "" expected "${expected}")
if(NOT printed STREQUAL expected)
  message(FATAL_ERROR "${PROGRAM} prints\n${printed}where ${SOURCE} says\n${expected}")
endif()
