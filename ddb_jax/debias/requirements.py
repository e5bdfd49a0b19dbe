"""What must exist before a method is trained or a step of it is chosen: names, and who meets them.

The rules of evaluation/selection.py use three of these names, and "test_split".
"""

NOTHING = "nothing"
AMPLIFIER_SCORES = "amplifier_scores"  # the frozen amplifier's losses
AMPLIFIER_ERRORS = "amplifier_errors"  # what it misclassifies
PSEUDO_GROUPS = "pseudo_groups"  # groups of class x pseudo-group made from its scores
REFERENCE_ERRORS = "reference_errors"  # what a model misclassifies that was trained shortly
ENVIRONMENTS = "environments"  # groups of class x environment inferred from such a model
COMMITTEE_VOTES = "committee_votes"  # what a committee of biased networks is not sure of
BIAS_FEATURES = "bias_features"  # features of a frozen network of a small receptive field
TRUE_GROUPS = "true_groups"  # groups of class x bias label

# What the amplifier's scores, or given ones in their place, must be there for.
OF_AMPLIFIER = frozenset({AMPLIFIER_SCORES, AMPLIFIER_ERRORS, PSEUDO_GROUPS})
# What generated images can meet as real ones do: the amplifier scores them, too.
MET_BY_GENERATED = OF_AMPLIFIER | {NOTHING}
# The stage whose scores.csv meets a requirement.
SCORES_OF = {
    AMPLIFIER_SCORES: "score",
    AMPLIFIER_ERRORS: "score",
    PSEUDO_GROUPS: "score",
    REFERENCE_ERRORS: "train_reference",
    COMMITTEE_VOTES: "train_committee",
    ENVIRONMENTS: "infer_environments",
}
ALL = frozenset(SCORES_OF) | {NOTHING, BIAS_FEATURES, TRUE_GROUPS}
