#!/bin/sh
# Heron's method for the square root of 2, damped: few steps or strong damping leave an error.
#
#     ./train.sh DAMPING STEPS INPUT_FILE OUTPUT_FILE
#
# INPUT_FILE is the JSON file of the point; OUTPUT_FILE takes the metrics.
set -eu
damping=$1 steps=$2 input=$3 output=$4

echo "point: $(cat "$input")"          # goes to the log of the attempt
awk -v damping="$damping" -v steps="$steps" '
    BEGIN {
        x = 10
        for (i = 0; i < steps; i++)
            x = damping * x + (1 - damping) * (x + 2 / x) / 2
        error = x - sqrt(2)
        if (error < 0) error = -error
        printf "{\"loss\": %.12g, \"steps\": %d}\n", error + 0.001 * steps, steps
    }' >"$output.partial"
mv "$output.partial" "$output"
