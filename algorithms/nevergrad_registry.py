"""The optimisers of Nevergrad's registry that cannot serve, and why: what `benchmarks.nevergrad_survey` found."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from hpo_steer.errors import ConfigError, nearest

if TYPE_CHECKING:
    from collections.abc import Collection

_SEQUENTIAL = "it suggests one point at a time and waits for its result, for ever if the point fails"
_BUDGET = "it cannot go on once its budget of points is spent"
_REPEATS = "it suggests the same points again and again, and here no point is proposed twice"
_FREEZES = "it does not come to an end once points have failed"
_SLOW = "it takes seconds for a point of few parameters"
_FAILS = "it fails with its first points"
_OBJECTIVES = "it fails with several objectives"
_BAYES_OPTIM = "it needs the package bayes_optim, with which it was not tried"
_FCMAES = "it needs the package fcmaes, with which it was not tried"

_GROUPS = (
    (
        _SEQUENTIAL,
        "NGOpt",
        (
            "AX NLOPT_GN_AGS NLOPT_GN_CRS2_LM NLOPT_GN_DIRECT NLOPT_GN_DIRECT_L NLOPT_GN_ESCH NLOPT_GN_ISRES "
            "SMAC3 pysot"
        ),
    ),
    (
        _SEQUENTIAL,
        "CMA",
        (
            "BFGS BOBYQA Carola1 Carola10 Carola11 Carola13 Carola14 Carola15 Carola2 Carola4 Carola5 Carola6 "
            "Carola8 Carola9 ChainCMAPowell ChainCMASQP ChainDSPowell ChainDiagonalCMAPowell CmaFmin2 Cobyla "
            "FCarola6 LBFGSB LocalBFGS MicroSQP NLOPT_LN_BOBYQA NLOPT_LN_COBYLA NLOPT_LN_NELDERMEAD "
            "NLOPT_LN_NEWUOA_BOUND NLOPT_LN_PRAXIS NLOPT_LN_SBPLX NelderMead PCarola6 Powell PymooBIPOP "
            "PymooCMAES RBFGS RCobyla RPowell RSQP SQP TinySQP pCarola6"
        ),
    ),
    (_SEQUENTIAL, "DE", "ChainDE MemeticDE PymooNSGA2 QNDE"),
    (
        _SEQUENTIAL,
        "MetaModel",
        "ChainMetaModelDSSQP ChainMetaModelPowell ChainMetaModelSQP MetaModelDSproba MetaModelFmin2",
    ),
    (_SEQUENTIAL, "NaiveTBPSA", "ChainNaiveTBPSACMAPowell ChainNaiveTBPSAPowell"),
    (_SEQUENTIAL, "OnePlusOne", "DS2 DS3p DS4 DS5 DS6 DS8 DS9 DSbase DSproba DSsubspace"),
    (_SEQUENTIAL, "DiscreteOnePlusOne", "DiscreteDoerrOnePlusOne"),
    (_SEQUENTIAL, "TBPSA", "MicroSPSA SPSA TinySPSA"),
    (
        _BUDGET,
        "RandomSearch",
        (
            "AvgHammersleySearch AvgHammersleySearchPlusMiddlePoint AvgMetaRecenteringNoHull AvgRandomSearch "
            "CauchyLHSSearch CauchyScrHammersleySearch HaltonSearch HaltonSearchPlusMiddlePoint "
            "HammersleySearch HammersleySearchPlusMiddlePoint HullAvgMetaRecentering "
            "HullAvgMetaTuneRecentering HullCenterHullAvgCauchyLHSSearch "
            "HullCenterHullAvgCauchyScrHammersleySearch HullCenterHullAvgLHSSearch "
            "HullCenterHullAvgLargeHammersleySearch HullCenterHullAvgRandomSearch "
            "HullCenterHullAvgScrHaltonSearch HullCenterHullAvgScrHaltonSearchPlusMiddlePoint "
            "HullCenterHullAvgScrHammersleySearch HullCenterHullAvgScrHammersleySearchPlusMiddlePoint "
            "LHSSearch LargeHaltonSearch MetaCauchyRecentering MetaRecentering MetaTuneRecentering "
            "OScrHammersleySearch QOScrHammersleySearch RescaleScrHammersleySearch ScrHaltonSearch "
            "ScrHaltonSearchPlusMiddlePoint ScrHammersleySearch ScrHammersleySearchPlusMiddlePoint "
            "TEAvgCauchyLHSSearch TEAvgCauchyScrHammersleySearch TEAvgLHSSearch TEAvgRandomSearch "
            "TEAvgScrHammersleySearch TEAvgScrHammersleySearchPlusMiddlePoint"
        ),
    ),
    (
        _BUDGET,
        "CMA",
        (
            "BFGSCMA BFGSCMAPlus F2SQPCMA F3SQPCMA FSQPCMA ForceMultiCobyla LogBFGSCMA LogBFGSCMAPlus "
            "LogMultiBFGS LogMultiBFGSPlus LogSQPCMA LogSQPCMAPlus MultiBFGS MultiBFGSPlus MultiCobyla "
            "MultiCobylaPlus MultiSQP MultiSQPPlus SQPCMA SQPCMAPlus SqrtBFGSCMA SqrtBFGSCMAPlus "
            "SqrtMultiBFGS SqrtMultiBFGSPlus SqrtSQPCMA SqrtSQPCMAPlus"
        ),
    ),
    (_BUDGET, "NGOpt", "Carola7 NGOptSingle25 NgIohRW2 Portfolio"),
    (
        _REPEATS,
        "OnePlusOne",
        (
            "AnisotropicAdaptiveDiscreteOnePlusOne DoubleFastGAOptimisticNoisyDiscreteOnePlusOne "
            "FastGANoisyDiscreteOnePlusOne FastGAOptimisticNoisyDiscreteOnePlusOne NgIohMLn Noisy13Splits "
            "NoisyBandit NoisyDiscreteOnePlusOne NoisyInfSplits NoisyOnePlusOne NoisyRL1 NoisyRL2 NoisyRL3 "
            "OLNDiscreteOnePlusOne OptimisticDiscreteOnePlusOne OptimisticNoisyOnePlusOne "
            "PortfolioNoisyDiscreteOnePlusOne PortfolioOptimisticNoisyDiscreteOnePlusOne "
            "RecombiningOptimisticNoisyDiscreteOnePlusOne "
            "RecombiningPortfolioOptimisticNoisyDiscreteOnePlusOne VastDE VastLengler Zero"
        ),
    ),
    (_FREEZES, "NGOpt", "ParaPortfolio"),
    (_SLOW, "MetaModel", "BOSplit"),
    (_FAILS, "CMA", "AXP"),
    (_FAILS, "BAR3", "BAR4"),
    (_FAILS, "OnePlusOne", "DS14 MultiDS"),
    (_OBJECTIVES, "MetaModel", "BO"),
    (_OBJECTIVES, "ES", "MixES"),
    (_OBJECTIVES, "RecES", "RecMixES"),
    (_BAYES_OPTIM, "MetaModel", "BayesOptimBO PCABO PCABO80 PCABO95DoE20"),
    (_FCMAES, "CMA", "FCMA FCMAp13 FCMAs03 SplitCMA"),
)
"""Reason, the nearest optimiser that serves, and names."""


@dataclass(frozen=True)
class Unfit:
    """Why an optimiser is not to be had.

    Attributes:
        reason: a sentence without its full stop.
        instead: the nearest one that serves.
    """

    reason: str
    instead: str


UNFIT: dict[str, Unfit] = {
    name: Unfit(reason, instead) for reason, instead, names in _GROUPS for name in names.split()
}
"""By name, as of Nevergrad 1.0.12."""


def fit_name(name: str, registry: Collection[str]) -> str:
    """The name, if it is that of an optimiser that serves.

    Raises:
        ConfigError: there is no such optimiser, or it is one of the `UNFIT`.
    """
    if name not in registry:
        close = nearest(name, registry)
        hint = close if close.startswith("did") else "NGOpt, CMA, DE, PSO and OnePlusOne are among its many"
        raise ConfigError("algorithm.optimizer", f'Nevergrad has no "{name}"; {hint}')
    if name in UNFIT:
        unfit = UNFIT[name]
        raise ConfigError(
            "algorithm.optimizer", f'"{name}" is left out: {unfit.reason}; the nearest is "{unfit.instead}"'
        )
    return name
