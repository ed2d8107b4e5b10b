# SPDX-License-Identifier: Apache-2.0
# The error of every codebook on a Gaussian against the rate-distortion bound.
#
#   quality --json rows.json
#   gnuplot -e "rows='rows.json'; out='gaussian_mse.svg'" gaussian_mse.gp        (needs jq)
set terminal svg size 900,620 font "Helvetica,12" background "white"
set output out
set logscale y
set format y "%g"
set xlabel "bits a number, everything counted"
set ylabel "mean squared error on N(0,1)"
set xrange [0.8:5.5]
set yrange [0.0005:0.6]
set grid ytics xtics lc rgb "#dddddd"
set key top right
set title "Mean squared error against bits, and what no code can pass"

points(pattern) = sprintf("< jq -r '.[] | select(.bits < 5.5 and (.format | test(\"%s\"))) | \
  [.bits, .mse, (.format | gsub(\"PerTensor<(?<c>.*)>$\"; .c))] | @tsv' %s", pattern, rows)

plot 2 ** (-2 * x) with lines lc rgb "#000000" lw 2 title "rate-distortion bound, 2^{-2R}", \
     points("^E8") with points pt 9 ps 1.2 lc rgb "#228833" title "E8 lattice", \
     points("^Trellis") with points pt 9 ps 1.2 lc rgb "#000000" title "trellis codes", \
     points("^PerTensor.*(Lloyd|Float)") with points pt 7 ps 1.0 lc rgb "#4477aa" title "scalar, levels for a Gaussian", \
     points("^PerTensor.*(Asym|Symm|Binary|Tern|Trits)") with points pt 5 ps 1.0 lc rgb "#ee6677" title "scalar, even levels", \
     points("^Grouped") with points pt 13 ps 1.2 lc rgb "#ccaa00" title "4 bits and fewer in groups of 32 to 128", \
     points("^(E8|Trellis|PerTensor.*(Binary|Tern|Trits))") using 1:2:3 with labels font ",10" offset 0.7,0.4 left \
       tc rgb "#444444" noenhanced notitle
