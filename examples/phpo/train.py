"""An evaluation of PanDA's kind: reads input.json and input_ds.json, leaves output.json."""

import json

with open("input.json") as file:
    point = json.load(file)
with open("input_ds.json") as file:
    files = json.load(file)
print(f"training on {len(files)} files")
loss = (point["lr_exponent"] + 2.5) ** 2
with open("output.json", "w") as file:
    json.dump({"status": 0, "loss": loss}, file)
