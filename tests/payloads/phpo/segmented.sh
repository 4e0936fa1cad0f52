phpo --outDS user.me.segmented \
  --steeringExec 'run --rm -v "$(pwd)":/HPOiDDS gitlab.example/hpogrid:1 /bin/bash -c "hpogrid generate --n_point %NUM_POINTS --max_point %MAX_POINTS --infile /HPOiDDS/%IN --outfile /HPOiDDS/%OUT --space none"' \
  --evaluationContainer docker://gitlab.example/hpogrid:1 \
  --evaluationExec 'hpogrid run %SEGMENT_NAME --mode idds' \
  --segmentSpecFile segments.json --searchSpaceFile spaces.json --maxPoints 6 \
  --dumpJson segmented.json
