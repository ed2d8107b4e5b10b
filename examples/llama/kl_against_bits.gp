# SPDX-License-Identifier: Apache-2.0
# What each format costs a model: KL divergence against bits a weight, and the front that no other format beats.
#
#   compress --formats all --json rows.json
#   gnuplot -e "rows='rows.json'; out='kl_against_bits.svg'" kl_against_bits.gp        (needs jq)
set terminal svg size 900,620 font "Helvetica,12" background "white"
set output out
set logscale y
set format y "%g"
set xlabel "bits a weight, everything counted"
set ylabel "KL divergence from the float32 model, nats"
set xrange [1:9]
set grid ytics xtics lc rgb "#dddddd"
set key top right
set title "Every format on the model that comes with gosset"

# format, bits, divergence of those below 9 bits, by name
points(pattern) = sprintf("< jq -r '.[] | select(.bits_per_weight < 9 and (.format | test(\"%s\"))) | \
  [.bits_per_weight, .kl_divergence, .format] | @tsv' %s", pattern, rows)
front = sprintf("< jq -r '.[] | select(.bits_per_weight < 9) | [.bits_per_weight, .kl_divergence, .format] | @tsv' %s \
  | sort -g | awk 'NR == 1 || $2 < least { print; least = $2 }'", rows)

plot front with steps lc rgb "#bbbbbb" lw 3 title "Pareto front", \
     points("^(int|asym|nf4|lloyd|binary|ternary)") with points pt 7 ps 0.9 lc rgb "#4477aa" title "nearest", \
     points("^(gptq|ldlq)") with points pt 5 ps 0.9 lc rgb "#ee6677" title "GPTQ, LDLQ", \
     points("^quip") with points pt 9 ps 1.1 lc rgb "#228833" title "QuIP#", \
     points("^trellis") with points pt 9 ps 1.1 lc rgb "#000000" title "trellis codes", \
     points("^awq") with points pt 13 ps 1.2 lc rgb "#ccaa00" title "AWQ", \
     points("^(w8a8|smoothquant|llm)") with points pt 11 ps 1.1 lc rgb "#66ccee" title "W8A8", \
     points("^(sparse|spqr)") with points pt 3 ps 1.0 lc rgb "#aa3377" title "1% in 16 bits", \
     front using 1:2:3 with labels font ",10" offset 0.6,0.6 left tc rgb "#444444" notitle
