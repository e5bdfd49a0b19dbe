"""The settings of debiasing methods; each section is described in the method's own file."""

from ml_collections import ConfigDict


def add_sections(c: ConfigDict) -> None:
    """Add them to a full config."""
    _add_losses_and_weights(c)
    _add_features_and_networks(c)
    _add_groups_and_last_layers(c)


def _add_losses_and_weights(c: ConfigDict) -> None:
    """Methods that change the loss or the weight of images."""
    c.group_dro = ConfigDict()  # ddb_i, ddb_i_error_set and group_dro
    c.group_dro.step_size = 0.01
    c.group_dro.adjustment = 0.0
    c.group_dro.sampling = "group_balanced"  # or "uniform"

    c.relative_difficulty = ConfigDict()  # ddb_ii
    c.relative_difficulty.ema = 0.0
    c.relative_difficulty.class_normalize = False
    c.relative_difficulty.normalize_weights = False

    c.gce = ConfigDict()
    c.gce.q = 0.7  # 0 is cross-entropy, 1 is 1 - p
    c.gce.scaled = False  # True is the form of LfF's code, with q times the gradient

    c.lff = ConfigDict()
    c.lff.gce_q = 0.7  # of the biased network
    c.lff.gce_scaled = False
    c.lff.ema = 0.7  # of the memories of per-example losses

    c.jtt = ConfigDict()  # jtt and jtt+ddb
    c.jtt.upweight = 50  # repetitions of an error per epoch; published grid: 20, 50, 100

    c.committee = ConfigDict()  # BiasEnsemble, lff+be and disent+be
    c.committee.members = 5
    c.committee.gce_q = 0.7
    c.committee.gce_scaled = False
    c.committee.confidence = 0.99  # a member agrees with a label that it gives more than this
    c.committee.agreement = 3  # members that must agree for an image to count as aligned

    c.bias_balance = ConfigDict()  # bias_bal+ddb and bias_bal
    c.bias_balance.smoothing = 1.0  # added to the count of every pair of class and bias
    c.bias_balance.strength = 1.0  # factor of the shift of the logits; 0 is plain training


def _add_features_and_networks(c: ConfigDict) -> None:
    """Methods that train on features, or a second network beside the main one."""
    c.disent = ConfigDict()  # disent, disent+ddb and disent+be
    c.disent.gce_q = 0.7  # of the biased branch
    c.disent.gce_scaled = False
    c.disent.ema = 0.7  # of the memories of per-example losses
    c.disent.swap_after = 1_000  # steps before biased codes are swapped; published 10,000 of 50,000
    c.disent.lambda_dis = 1.0  # of the biased branch's loss; CMNIST 10, C-CIFAR-10 1 or 5, BFFHQ 2
    c.disent.lambda_swap = 1.0  # of the loss on swapped codes; C-CIFAR-10 1 or 5, BFFHQ 0.1
    c.disent.lambda_swap_biased = 1.0  # of the biased loss within it; as lambda_dis

    c.selecmix = ConfigDict()
    c.selecmix.temperature = 0.2  # of the auxiliary network's contrastive loss
    c.selecmix.gce_q = 0.7
    c.selecmix.gce_scaled = False
    c.selecmix.auxiliary_lr_scale = 1.0  # published 2 on CMNIST, 1 on C-CIFAR-10

    c.rebias = ConfigDict()
    c.rebias.lambda_main = 1.0  # weight of the dependence that the classifier minimises
    c.rebias.lambda_biased = 1.0  # and that the biased network maximises
    # Kernel bandwidth; 0 is the median distance in the batch. With the published value, 1, kernels
    # vanish on features that lie further apart, and the method becomes plain training.
    c.rebias.bandwidth = 0.0
    c.rebias.biased_lr_scale = 1.0

    c.debian = ConfigDict()
    c.debian.lambda_balance = 1.0  # weight against classes that fall into one group
    c.debian.discoverer_lr_scale = 1.0

    c.bias_contrastive = ConfigDict()  # softcon and bias_con
    c.bias_contrastive.temperature = 0.07
    c.bias_contrastive.ce_weight = 1.0  # beside the contrastive loss; 0.01 on Biased MNIST


def _add_groups_and_last_layers(c: ConfigDict) -> None:
    """Methods that start from a trained classifier: groups found with it, new last layers."""
    c.eiil = ConfigDict()
    c.eiil.num_steps = 10_000  # of Adam on the assignment of the training images
    c.eiil.learning_rate = 0.001

    c.afr = ConfigDict()  # afr and afr+ddb; the values are those for Waterbirds
    c.afr.held_out_share = 0.2  # of the training images, on which the last layer is fitted
    c.afr.gamma = 10.0  # sharpness of the weights exp(-gamma p)
    c.afr.balance_classes = True
    c.afr.regularization = 0.0  # of the squared distance from the first head; CelebA 0.001
    c.afr.learning_rate = 0.01
    c.afr.num_steps = 500
    c.afr.max_gradient_norm = 1.0  # 0 is off

    c.dfr = ConfigDict()  # dfr and dfr+ddb
    c.dfr.c_grid = (1.0, 0.7, 0.3, 0.1, 0.07, 0.03, 0.01)  # inverse penalties to choose from
    c.dfr.refits = 20  # fits on group-balanced subsamples, whose coefficients are averaged
    c.dfr.penalty = "l1"  # or "l2"
