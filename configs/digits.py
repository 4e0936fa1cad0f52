"""Trains gradient-boosted trees on scikit-learn's handwritten digits and returns the loss on held-out ones.

Runs by itself as well: python configs/digits.py
"""

import time

import xgboost
from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split


def train(params):
    """Multi-class log loss and error rate on the held-out fifth of the digits, and the model's size."""
    images, labels = load_digits(return_X_y=True)
    x, x_held_out, y, y_held_out = train_test_split(
        images, labels, test_size=0.2, random_state=0, stratify=labels
    )
    rounds = params["rounds"]
    settings = {name: value for name, value in params.items() if name != "rounds"}
    began = time.perf_counter()
    booster = xgboost.train(
        {
            "objective": "multi:softprob",
            "num_class": 10,
            "eval_metric": ["mlogloss", "merror"],
            "nthread": 1,
            "seed": 0,
            "tree_method": "hist",
            **settings,
        },
        xgboost.DMatrix(x, y),
        num_boost_round=rounds,
        evals=[(xgboost.DMatrix(x_held_out, y_held_out), "held_out")],
        evals_result=(history := {}),
        verbose_eval=False,
    )
    return {
        "loss": history["held_out"]["mlogloss"][-1],
        "error_rate": history["held_out"]["merror"][-1],
        "size_kb": len(booster.save_raw()) / 1024,
        "train_s": time.perf_counter() - began,
    }


if __name__ == "__main__":
    print(train({"eta": 0.3, "max_depth": 6, "rounds": 40}))
