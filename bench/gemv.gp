# SPDX-License-Identifier: Apache-2.0
# Speed of a matrix-vector product from DRAM against bits a weight, and what the memory's bandwidth allows.
#
#   gemv_bench --benchmark_filter=DRAM/4096x4096 --benchmark_repetitions=9 --benchmark_enable_random_interleaving=true \
#     --benchmark_out=gemv.json
#   gnuplot -e "rows='gemv.json'; out='gemv.svg'" gemv.gp        (needs jq)
set terminal svg size 900,560 font "Helvetica,12" background "white"
set output out
set logscale xy 2
set xlabel "bits a weight, scales counted"
set ylabel "billion weights a second, one thread"
set xrange [0.9:40]
set yrange [2:140]
set xtics (1, 2, 3, 4, 5, 6, 8, 16, 32)
set ytics (2, 4, 8, 16, 32, 64, 128)
set grid ytics xtics lc rgb "#dddddd"
set key top right
set title "Products with one vector, 4096 x 4096 matrices from DRAM"

median(what) = sprintf("jq -r '.benchmarks[] | select(.aggregate_name == \"median\" and (.run_name | startswith(\"DRAM/4096x4096/\"))) | %s' %s", what, rows)
bandwidth = real(system(median("select(.run_name | endswith(\"/stream\")) | .[\"bytes/s\"]"))) * 1e-9
named(test) = "< " . median(sprintf("(.run_name | split(\"/\") | last) as $name | select($name | %s) | \
  [8 * .[\"bytes/s\"] / .[\"weights/s\"], .[\"weights/s\"] * 1e-9, ($name | sub(\", .*$\"; \"\"))] | @tsv", test))

plot bandwidth * 8 / x with lines lc rgb "#000000" lw 2 title sprintf("a streaming read, %.0f GB/s", bandwidth), \
     named("(. == \"FP16\" or . == \"float\")") using 1:2 with points pt 5 ps 1.2 lc rgb "#ee6677" title "plain floats", \
     named("test(\"^(Sym|Asym|Normal|Lloyd|Ternary|Binary)\") and (endswith(\"float\") | not)") using 1:2 \
       with points pt 7 ps 1.1 lc rgb "#4477aa" title "scalar codebooks", \
     named("test(\"^E8\") and (endswith(\"float\") | not)") using 1:2 \
       with points pt 9 ps 1.3 lc rgb "#228833" title "E8 lattice", \
     named("test(\"^Trellis\")") using 1:2 with points pt 9 ps 1.3 lc rgb "#000000" title "trellis codes", \
     named("(. != \"stream\" and . != \"Eigen float\" and (endswith(\", float\") | not))") using 1:2:3 \
       with labels font ",9" offset 0.6,0.5 left tc rgb "#555555" noenhanced notitle
