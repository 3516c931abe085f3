"""The result tables of the Grad-RAM maps and of their regions, see `result_tables`."""

from __future__ import annotations

from brainage_bids.table_declaration import ResultTable

SALIENCY_REGIONS = ResultTable(
    "saliency_regions",
    "model group_by group n n_empty index name hemisphere volume_ml n_cells mean sd ci_lo ci_hi median "
    "rank rank_ci above_threshold groupnorm_mean contribution_years contribution_up_years "
    "contribution_down_years laterality_index status note",
    own={
        "group_by": "what the people were grouped by: all, age, sex or group",
        "group": "the group",
        "n_empty": "people without a positive value inside the brain; they count as zeros",
        "index": "value of the region in the atlas",
        "name": "name of the region in the atlas",
        "hemisphere": "L, R or both",
        "volume_ml": "volume of the region inside the brain mask on the grid of the maps (mL)",
        "n_cells": "cells of the map that are the nearest to a voxel of the region",
        "mean": "mean of the normalised map in the region, averaged over people (0 to 1)",
        "sd": "its SD over people",
        "ci_lo": "lower end of the 95 % interval of the mean (t)",
        "ci_hi": "upper end",
        "median": "median over people",
        "rank": "place of the region by its mean; 1 is the highest",
        "rank_ci": "95 % interval of the rank (percentile bootstrap over people), lowest-highest",
        "above_threshold": "1 when the mean reaches --saliency-threshold",
        "groupnorm_mean": "mean in the region of the group's mean map, normalised as one map (0 to 1)",
        "contribution_years": "sum of the signed map in the region, averaged over people (years of predicted age)",
        "contribution_up_years": "the same of the cells that raise the predicted age (years)",
        "contribution_down_years": "the same of the cells that lower it (years)",
        "laterality_index": "(L - R) / (L + R) of the means of a region and its counterpart",
    },
    texts="group_by name hemisphere rank_ci",
)
SALIENCY_CONTRASTS = ResultTable(
    "saliency_contrasts",
    "model contrast variant index region n_case n_control mean_diff t df p q_fdr p_perm p_fwe family status note",
    own={
        "contrast": "who is compared: first minus second",
        "variant": "raw: Welch; adjusted: with these covariates held",
        "index": "value of the region in the atlas",
        "region": "name of the region in the atlas",
        "n_case": "people of the first group",
        "n_control": "people of the second group",
        "mean_diff": "difference of the mean normalised maps in the region (0 to 1)",
        "p_perm": "p by permutation",
        "p_fwe": "p by permutation against the largest statistic of all regions",
    },
    texts="contrast region",
)
# of the differences of regions between two groups, before several contrasts are joined
REGIONDIFF = ResultTable(
    "regiondiff",
    "region n_case n_control mean_diff t df p q_fdr p_perm p_fwe status note",
    texts="region",
)
MAPS = ResultTable("maps", "model subset n n_empty kind path", texts="kind path")  # of the mean maps; no file
