phpo --outDS user.me.plain \
  --steeringExec 'run --rm -v "$(pwd)":/HPOiDDS gitlab.example/steering:1 /bin/bash -c "python /opt/steer.py --n %NUM_POINTS --max %MAX_POINTS --in /HPOiDDS/%IN --out /HPOiDDS/%OUT"' \
  --evaluationContainer docker://gitlab.example/train:1 \
  --evaluationExec 'bash train.sh' \
  --searchSpaceFile space.json \
  --dumpJson plain.json
