"""Fields out of their range or that do not go together; a row is as in `bad_inputs.py`."""


def row(config: str, flags: str, *words: str) -> tuple[str, tuple[str, ...], tuple[str, ...]]:
    return config, tuple(flags.split()), words


def field(flags: str, what: str, mend: str, *, config: str = "digits") -> tuple:
    """A row whose sentence begins with the field of the last flag."""
    return row(config, flags, f"config.{flags.split()[-1].split('=')[0]} is {what}", mend)


def choice(flag: str, near: str) -> tuple:
    return field(flag, f"{flag.split('=')[1]!r}, the nearest of ", f" is '{near}'")


NO_LESS, ABOVE, SHARE = "it must be at least 0", "it must be greater than 0", "between 0 and 1"
PART, LESS = "greater than 0 and less than 1", "at least 0 and less than 1"
FIELDS = [
    field("num_devices=99", "99, but only", "or 0 for all"),
    field("num_devices=-1", "-1", NO_LESS),
    field("fsdp=3", "3, which does not divide the 8 devices", "take 1, or another of their"),
    field("seeds=0,0", "(0, 0)", "must hold different numbers"),
    field("seeds=", "()", "must hold different numbers, at least one"),
    field("seeds=-1", "(-1,)", "at least 0 and less than 2^32"),
    field("seeds=one", "('one',)", "it must be a list of whole numbers"),
    field("methods=", "empty", "name one or more, such as erm,ddb_ii"),
    row(
        "digits",
        "methods=erm,ddb_3",
        "config.methods: 'ddb_3' is no method, the nearest",
        "is 'ddb_i'",
    ),
    choice("data.name=digit", "digits"),
    choice("data.resize=crop", "center_crop"),
    field("data.seed=-1", "-1", "at least 0 and less than 2^32"),
    field("data.validation_share=0", "0.0", PART),
    field("data.test_share=1", "1.0", PART),
    field("data.aligned_share=1.5", "1.5", SHARE),
    field("data.colour_jitter=-0.1", "-0.1", NO_LESS),
    field("data.root=x data.severity=9", "9", "between 1 and 5", config="cmnist"),
    field("data.root=x data.conflicting_share=2", "2.0", SHARE, config="cmnist"),
    field("unet.channels=9", "9", "a multiple of twice config.unet.num_heads, 1"),
    field("unet.channel_mults=", "empty", "give one number a level, such as 1,2,2"),
    field("unet.num_heads=0", "0", ABOVE),
    field("unet.dropout=1.0", "1.0", LESS),
    choice("unet.dtype=float16", "bfloat16"),
    field("unet.attention_resolutions=7", "(7,)", "name some of these, or none with ()"),
    row("digits", "diffusion.image_size=0", "config.diffusion.image_size", "must be above 0"),
    field("diffusion.image_size=18", "18, which the UNet's", "take a multiple of 4"),
    choice("diffusion.noise_schedule=linera", "linear"),
    field("diffusion.beta_start=0.0", "0.0", PART),
    field("diffusion.beta_start=0.5", "0.5, more than config.diffusion.beta_end", "exchange them"),
    field("diffusion.label_dropout=1.0", "1: the model would never see", "0.1 is usual"),
    row(
        "digits",
        "diffusion.label_dropout=0.0",
        "config.synthesis.guidance_scale is 2.0, and config.diffusion.label_dropout is 0",
        "take 0.1 there, or 1",
    ),
    field("diffusion.batch_size=20", "20, which 8 devices do not divide", "they do is 24"),
    field("diffusion.accumulate=0", "0", ABOVE),
    row(
        "digits",
        "diffusion.num_steps=many",
        "--config.diffusion.num_steps=many does not give the int",
        "write it as its default, --config.diffusion.num_steps=20",
    ),
    choice("diffusion.optimizer=adam", "adamw"),
    field("diffusion.learning_rate=nan", "nan", "it must be a finite number"),
    field("diffusion.learning_rate=0.0", "0.0", ABOVE),
    field("diffusion.momentum=1.0", "1.0", LESS),
    choice("synthesis.sampler=dim", "ddim"),
    row("digits", "synthesis.spacing=log", "'log', the nearest of '', uniform", "is 'uniform'"),
    row(
        "digits",
        "synthesis.num_steps=2000",
        "config.synthesis: the number of sampling steps is 2000",
        "it must be 1 to 1000, the number of timesteps",
    ),
    row("digits", "synthesis.eta=0.5", "config.synthesis: ", "only the sampler ddim has an eta"),
    field("amplifier.image_size=8", "8, less than config.diffusion", "take 0 for equal sizes"),
    row(
        "digits",
        "amplifier.gce_q=0.0 amplifier.gce_scaled=True",
        "config.amplifier: gce_q of the amplifier section is 0.0",
        "it must be above 0",
    ),
    field("pseudo_groups.top_share=0.0", "0.0", PART),
    choice("classifier.network=resnet99", "resnet8"),
    row(
        "folder",
        "data.root=x amplifier.network=densenet121 diffusion.image_size=8",
        "config.amplifier.network densenet121 at 8 pixels: ",
        "use larger ones or",
    ),
    choice("classifier.trainable=heads", "head"),
    field("classifier.max_shift=16", "16, and the images have 16 pixels", "an eighth is usual"),
    field("classifier.batch_size=3", "3, which 8 devices", "the next that they do is 8"),
    field("methods=rebias classifier.batch_size=2", "2, and rebias needs", "take as many, or"),
    field("methods=rebias classifier.accumulate=2", "2, and rebias needs", "or leave it out"),
    choice("classifier.selection=worst_true_group", "worst_pseudo_group"),
    row(
        "digits",
        "search.tries=2 classifier.oracle_selection=last",
        "config.search.tries is 2, and config.classifier.oracle_selection 'last'",
        "take another rule",
    ),
    field("search.seed=-1", "-1", "at least 0 and less than 2^32"),
    field("committee.agreement=6", "6, more than its 5 members", "take no more than"),
    field("dfr.c_grid=0.0,1", "(0.0, 1)", "it must hold numbers greater than 0"),
    field("dfr.c_grid=some", "('some',)", "it must be a list of numbers"),
    row(
        "digits",
        "gate.labels=True gate.debiased_method=dfr methods=steered",
        "config.gate.debiased_method is 'dfr'",
        "it must be a method without bias labels",
    ),
]
