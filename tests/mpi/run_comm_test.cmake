# One case of comm_test_main.cpp under mpirun:
#   cmake -DMPIEXEC=... -DPROGRAM=... -DCASE=<case> -P run_comm_test.cmake
set(ENV{OMPI_ALLOW_RUN_AS_ROOT} 1)
set(ENV{OMPI_ALLOW_RUN_AS_ROOT_CONFIRM} 1)
set(ENV{OMPI_MCA_mpi_yield_when_idle} 1)
set(ENV{OMPI_MCA_rmaps_base_oversubscribe} 1)
set(ENV{OMP_NUM_THREADS} 1)
unset(ENV{SLURM_NTASKS})

# Runs PROGRAM with the arguments on `ranks` ranks (0: without mpirun); sets code, out, err and
# seconds. A run that outlasts 60 s is a failure by itself: the wait for a dead rank would be endless.
macro(run ranks)
  set(launcher ${MPIEXEC} -np ${ranks} --bind-to none)
  if(${ranks} EQUAL 0)
    set(launcher "")
  endif()
  string(TIMESTAMP started "%s" UTC)
  execute_process(COMMAND ${launcher} ${PROGRAM} ${ARGN} TIMEOUT 60
                  RESULT_VARIABLE code OUTPUT_VARIABLE out ERROR_VARIABLE err)
  string(TIMESTAMP ended "%s" UTC)
  math(EXPR seconds "${ended} - ${started}")
endmacro()

# `condition` is an argument of if(), in brackets so that it is not split.
function(expect what condition)
  cmake_language(EVAL CODE "if(NOT (${condition}))
    message(FATAL_ERROR [==[expected: ${what}]==] \"\\nexit code \${code} after \${seconds} s\\n\${out}\${err}\")
  endif()")
endfunction()

# The number of times that `text` stands in err.
macro(count_in_err text variable)
  string(REPLACE "${text}" "\n@match@" marked "${err}")
  string(REGEX MATCHALL "@match@" matches "${marked}")
  list(LENGTH matches ${variable})
endmacro()

if(CASE STREQUAL "tree")
  foreach(shards 4 8)
    set(first "")
    foreach(ranks 0 1 2 3 4)
      run(${ranks} tree ${shards})
      expect("${ranks} ranks, ${shards} shards succeed" [[code EQUAL 0]])
      string(REGEX MATCH "hash [0-9a-f]+" hash "${out}")
      expect("a hash is printed" [[NOT hash STREQUAL ""]])
      if(first STREQUAL "")
        set(first "${hash}")
      endif()
      expect("${ranks} ranks, ${shards} shards: ${hash} is ${first}" [[hash STREQUAL first]])
    endforeach()
  endforeach()

elseif(CASE STREQUAL "too_many_ranks")
  run(3 tree 2)
  expect("more ranks than shards is a configuration error" [[code EQUAL 78]])
  expect("with its fix" [[err MATCHES "raise parallelism.reduction_shards to 4"]])

elseif(CASE STREQUAL "basics")
  foreach(ranks 0 1 2 3 4)
    run(${ranks} basics)
    expect("basics on ${ranks} ranks" [[code EQUAL 0]])
  endforeach()

elseif(CASE STREQUAL "failing_rank")
  run(3 fail)
  expect("the code of the failing rank" [[code EQUAL 65]])
  expect("within seconds" [[seconds LESS 20]])
  expect("its message with its rank" [[err MATCHES
         "\\[rank 1 [^ ]+\\] mine.ds: error: expected 1000 tokens, got 999; copy it again"]])
  run(3 throw)
  expect("any exception is an internal error" [[code EQUAL 70]])
  expect("with its text" [[err MATCHES "\\[rank 1 [^ ]+\\] error: unforeseen"]])
  run(0 fail)
  expect("one rank leaves with its code" [[code EQUAL 65]])
  expect("and a plain message" [[err STREQUAL
         "mine.ds: error: expected 1000 tokens, got 999; copy it again\n"]])

elseif(CASE STREQUAL "agreed_failure")
  run(3 agree)
  expect("the code of the failing rank" [[code EQUAL 65]])
  count_in_err("error: expected 1000 tokens" count)
  expect("one message" [[count EQUAL 1]])
  expect("that names the rank" [[err MATCHES "\\[rank 2 [^ ]+\\] last.ds: error"]])
  run(3 agree-all)
  expect("the common code" [[code EQUAL 65]])
  count_in_err("shared.ds: error" count)
  expect("one message of three ranks" [[count EQUAL 1]])
  expect("without a rank" [[NOT err MATCHES "\\[rank"]])

elseif(CASE STREQUAL "leave")
  run(3 leave)
  expect("the code comes through" [[code EQUAL 75]])

elseif(CASE STREQUAL "srun_without_pmi")
  set(ENV{SLURM_NTASKS} 4)
  run(0 basics)
  expect("tasks that do not see each other are refused" [[code EQUAL 78]])
  expect("with the fix" [[err MATCHES "srun --mpi=pmix"]])
  run(2 basics)
  expect("mpirun inside an allocation is fine" [[code EQUAL 0]])

else()
  message(FATAL_ERROR "no case '${CASE}'")
endif()
