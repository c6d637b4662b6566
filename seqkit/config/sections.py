"""The sections of the root config that belong to no component: fairseq's names, fields and defaults.

Knows nothing of how a config is composed, checked or used.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from seqkit.config.base import Config, option

_NO_TPU = "seqkit runs on CPUs and CUDA GPUs; leave it unset"
_NO_PIPELINE = "pipeline parallelism of this kind no longer exists in PyTorch; use distributed_training.ddp_backend"
_NO_SLOWMO = "SlowMo's package is no longer maintained; use another distributed_training.ddp_backend"
_NO_MODEL_PARALLEL = "Megatron model parallelism is not supported; use distributed_training.ddp_backend=fully_sharded"
_NO_TWO_PASSES = "speech translation in two passes (S2ST with a text decoder) is not in this version"
_NO_PLASMA = "data is memory-mapped, which serves the purpose without a plasma store; leave it unset"
_NO_AIM = "logging to Aim is not supported; use common.tensorboard_logdir or common.wandb_project"
_NO_AZURE = "logging to AzureML is not supported; use common.tensorboard_logdir or common.wandb_project"


@dataclass
class CommonConfig(Config):
    """Logging, seed, device and precision."""

    no_progress_bar: bool = option(False, "log plain lines instead of drawing a progress bar")
    log_interval: int = option(100, "log progress every so many updates (batches, outside training)", low=1)
    log_format: str | None = option(
        None,
        "how progress is shown; unset: tqdm on a terminal, else simple",
        choices=("json", "none", "simple", "tqdm"),
    )
    log_file: str | None = option(None, "file that receives a copy of the log")
    aim_repo: str | None = option(None, "Aim repository", refused=_NO_AIM)
    aim_run_hash: str | None = option(None, "Aim run to go on with", refused=_NO_AIM)
    tensorboard_logdir: str | None = option(None, "folder for TensorBoard event files")
    wandb_project: str | None = option(None, "Weights & Biases project that receives the metrics")
    azureml_logging: bool | None = option(False, "log to AzureML", refused=_NO_AZURE)
    seed: int = option(1, "seed of every source of randomness")
    cpu: bool = option(False, "stay on the CPU even where there is a GPU")
    tpu: bool = option(False, "run on a TPU", refused=_NO_TPU)
    bf16: bool = option(False, "train or decode in bfloat16")
    memory_efficient_bf16: bool = option(False, "bfloat16 without a float32 copy of the weights; implies bf16")
    fp16: bool = option(False, "train or decode in float16")
    memory_efficient_fp16: bool = option(False, "float16 without a float32 copy of the weights; implies fp16")
    fp16_no_flatten_grads: bool = option(False, "has no effect: gradients are never put into one vector")
    fp16_init_scale: int = option(128, "loss scale that fp16 training starts with", low=1)
    fp16_scale_window: int | None = option(
        None, "updates without overflow before the loss scale doubles; unset: 2**14 / GPUs / update_freq", low=1
    )
    fp16_scale_tolerance: float = option(
        0.0, "share of updates since the last change of scale that may overflow before it is lowered", low=0.0, high=1.0
    )
    on_cpu_convert_precision: bool = option(False, "convert batches to half precision before they go to the device")
    min_loss_scale: float = option(1e-4, "loss scale below which fp16 training stops as diverged", low=0.0)
    threshold_loss_scale: float | None = option(None, "the loss scale is never lowered below this", low=0.0)
    amp: bool = option(
        False, "automatic mixed precision: weights stay float32, each operation runs in float16 (bf16: bfloat16) or not"
    )
    amp_batch_retries: int = option(2, "times a batch is tried again after an overflow under amp", low=0)
    amp_init_scale: int = option(128, "loss scale that amp starts with", low=1)
    amp_scale_window: int | None = option(None, "updates without overflow before amp's loss scale doubles", low=1)
    tf32: bool = option(
        True, "a GPU may multiply float32 matrices in TF32: faster, with 10 bits of precision in the products' factors"
    )
    compile: str = option(
        "none",
        "compile the model's layers (torch.compile) once, for batches of any length; training starts later and, where "
        "small operations cost much (on GPUs above all), goes faster",
        choices=("none", "default", "max-autotune-no-cudagraphs"),
    )
    user_dir: str | None = option(None, "folder of plugins: tasks, models, criterions, … of your own")
    empty_cache_freq: int = option(0, "give cached GPU memory back every so many updates; 0: never", low=0)
    all_gather_list_size: int = option(
        16384, "bytes set aside for exchanging log figures; has no effect: they may have any size", low=1
    )
    model_parallel_size: int = option(1, "GPUs that share one model", refused=_NO_MODEL_PARALLEL)
    quantization_config_path: str | None = option(None, "YAML file that describes iterative quantisation")
    profile: bool = option(
        False, "profile a few updates: log where their time goes, write a trace, then train on as if nothing had been"
    )
    profile_after: int = option(10, "updates of a run before the profile begins", low=1)
    profile_updates: int = option(5, "updates that are profiled", low=1)
    profile_dir: str | None = option(None, "folder for the profile's trace; unset: checkpoint.save_dir")
    reset_logging: bool = option(False, "has no effect: each command sets its logging up by itself")
    suppress_crashes: bool = option(False, "end with exit code 0 even when training fails (for sweeps)")
    use_plasma_view: bool = option(False, "keep indices in a plasma store", refused=_NO_PLASMA)
    plasma_path: str | None = option("/tmp/plasma", "socket of the plasma store", refused=_NO_PLASMA)


@dataclass
class CommonEvalConfig(Config):
    """Which checkpoints the commands after training read, and how they print."""

    path: str | None = option(None, "checkpoint; several joined by ':' make an ensemble")
    post_process: str | None = option(
        None,
        "undo subword splitting in the output: a marker such as '@@ ', or subword_nmt, sentencepiece, wordpiece, "
        "letter, silence, _EOW",
        flags=("--post-process", "--remove-bpe"),
        bare="subword_nmt",
    )
    quiet: bool = option(False, "print only the closing summary")
    model_overrides: dict[str, Any] = option({}, "options of the checkpoint's model and task to replace, by name")
    results_path: str | None = option(None, "folder for the output file; unset: standard output")
    format: str = option(
        "text",
        "output as fairseq's lines, or one JSON object for each sentence (or block of text)",
        choices=("text", "json"),
    )


@dataclass
class DistributedTrainingConfig(Config):
    """Processes, GPUs and how they share the work."""

    distributed_world_size: int | None = option(
        None, "number of processes over all machines; unset: one for each GPU of this machine", low=1
    )
    distributed_num_procs: int | None = option(
        None, "processes started on this machine; unset: one for each of its GPUs", low=0
    )
    distributed_rank: int | None = option(0, "rank of this machine's first process", low=0)
    distributed_backend: str = option(
        "nccl", "torch.distributed backend for tensors on GPUs (those on CPUs always go by gloo)"
    )
    distributed_init_method: str | None = option(
        None, "where processes meet: tcp://HOST:PORT of the machine of rank 0; unset: told by torchrun, SLURM, or us"
    )
    distributed_port: int = option(-1, "port where processes meet; -1: from SLURM's job number, or any free one")
    device_id: int = option(0, "GPU of this process", low=0, flags=("--device-id", "--local_rank"))
    distributed_no_spawn: bool = option(False, "start no processes: this one is one of those that train")
    ddp_backend: str = option(
        "pytorch_ddp",
        "how gradients are shared (c10d is the old name of pytorch_ddp, no_c10d of legacy_ddp; there is no slowmo)",
        choices=("c10d", "fully_sharded", "legacy_ddp", "no_c10d", "pytorch_ddp"),
    )
    ddp_comm_hook: str = option("none", "compress gradients for the exchange", choices=("none", "fp16"))
    bucket_cap_mb: int = option(25, "size of the buckets that gradients are exchanged in, MB", low=1)
    fix_batches_to_gpus: bool = option(False, "each GPU keeps its batches over the epochs; only their order changes")
    find_unused_parameters: bool = option(False, "let DDP look for parameters that got no gradient")
    gradient_as_bucket_view: bool = option(False, "gradients share memory with DDP's buckets")
    fast_stat_sync: bool = option(False, "old way to sum log figures over GPUs; has no effect any more")
    heartbeat_timeout: int = option(
        -1,
        "seconds without progress (longer than any validation batch or save takes) after which the job is ended and "
        "the process that stalls is named; -1: never",
    )
    broadcast_buffers: bool = option(
        False,
        "all processes go on with the buffers of rank 0 (such as batch norm's running statistics), copied before each "
        "forward pass (legacy_ddp: with each update); otherwise each keeps its own, and those of rank 0 are saved",
    )
    slowmo_momentum: float | None = option(None, "SlowMo momentum", refused=_NO_SLOWMO)
    slowmo_base_algorithm: str = option("localsgd", "algorithm below SlowMo", refused=_NO_SLOWMO)
    localsgd_frequency: int = option(3, "updates between averages of local SGD", refused=_NO_SLOWMO)
    nprocs_per_node: int | None = option(
        None, "processes on each machine, where distributed_num_procs does not say it; unset: one for each GPU", low=1
    )
    pipeline_model_parallel: bool = option(False, "pipeline parallelism", refused=_NO_PIPELINE)
    pipeline_balance: str | None = option(None, "layers on each device", refused=_NO_PIPELINE)
    pipeline_devices: str | None = option(None, "device of each part", refused=_NO_PIPELINE)
    pipeline_chunks: int | None = option(0, "micro-batches", refused=_NO_PIPELINE)
    pipeline_encoder_balance: str | None = option(None, "encoder layers on each device", refused=_NO_PIPELINE)
    pipeline_encoder_devices: str | None = option(None, "device of each encoder part", refused=_NO_PIPELINE)
    pipeline_decoder_balance: str | None = option(None, "decoder layers on each device", refused=_NO_PIPELINE)
    pipeline_decoder_devices: str | None = option(None, "device of each decoder part", refused=_NO_PIPELINE)
    pipeline_checkpoint: str = option("never", "activation checkpointing in the pipeline", refused=_NO_PIPELINE)
    zero_sharding: str = option("none", "share optimizer state over GPUs (os), as ZeRO does", choices=("none", "os"))
    fp16: bool = option(False, "precision of the wrapped model", follows="common.fp16")
    memory_efficient_fp16: bool = option(
        False, "precision of the wrapped model", follows="common.memory_efficient_fp16"
    )
    tpu: bool = option(False, "run on a TPU", follows="common.tpu", refused=_NO_TPU)
    no_reshard_after_forward: bool = option(False, "FSDP keeps whole parameters from forward to backward")
    fp32_reduce_scatter: bool = option(False, "FSDP sums gradients in float32")
    cpu_offload: bool = option(False, "FSDP keeps parameters and optimizer state in CPU memory")
    use_sharded_state: bool = option(False, "each rank saves its own shard of the state")
    not_fsdp_flatten_parameters: bool = option(False, "has no effect: FSDP never flattens parameters")


@dataclass
class DatasetConfig(Config):
    """Splits, batches and validation."""

    num_workers: int = option(1, "processes that prepare batches; 0: none beside the main one", low=0)
    skip_invalid_size_inputs_valid_test: bool = option(
        False, "leave out too long sentences of validation and test sets instead of stopping"
    )
    max_tokens: int | None = option(None, "most tokens in a batch, padding counted", low=1)
    batch_size: int | None = option(None, "most sentences in a batch", low=1, flags=("--batch-size", "--max-sentences"))
    required_batch_size_multiple: int = option(8, "sentences in a batch are a multiple of this where possible", low=1)
    required_seq_len_multiple: int = option(1, "batches are padded to a multiple of this length", low=1)
    dataset_impl: str | None = option(
        None,
        "format of the data; unset: recognised from the files",
        choices=("raw", "lazy", "cached", "mmap", "fasta", "huffman"),
    )
    data_buffer_size: int = option(10, "batches prepared ahead", low=0)
    train_subset: str = option("train", "split to train on")
    valid_subset: str = option("valid", "splits to validate on, joined by ','")
    combine_valid_subsets: bool | None = option(
        None,
        "validate on valid, valid1, valid2, … together",
        flags=("--combine-valid-subsets", "--combine-val"),
    )
    ignore_unused_valid_subsets: bool | None = option(False, "say nothing about valid splits that are not used")
    validate_interval: int = option(1, "validate every so many epochs", low=1)
    validate_interval_updates: int = option(0, "validate every so many updates; 0: only by epochs", low=0)
    validate_after_updates: int = option(0, "do not validate before this many updates", low=0)
    fixed_validation_seed: int | None = option(None, "seed set anew before every validation")
    disable_validation: bool = option(False, "never validate")
    max_tokens_valid: int | None = option(
        None, "most tokens in a validation batch", low=1, follows="dataset.max_tokens"
    )
    batch_size_valid: int | None = option(
        None,
        "most sentences in a validation batch",
        low=1,
        follows="dataset.batch_size",
        flags=("--batch-size-valid", "--max-sentences-valid"),
    )
    max_valid_steps: int | None = option(
        None, "validate on this many batches only", low=1, flags=("--max-valid-steps", "--nval")
    )
    curriculum: int = option(0, "first epochs whose batches are not shuffled", low=0)
    gen_subset: str = option("test", "split to decode or to evaluate")
    num_shards: int = option(1, "parts that decoding of a split is shared into", low=1)
    shard_id: int = option(0, "part that this process takes", low=0)
    grouped_shuffling: bool = option(False, "shuffle groups of num_shards batches, so that ranks get similar lengths")
    update_epoch_batch_itr: bool = option(
        False, "make the batches anew for every epoch", follows="dataset.grouped_shuffling"
    )
    update_ordered_indices_seed: bool = option(False, "order sentences by another seed in every epoch")
    drop_ragged_batch: bool = option(
        True,
        "training leaves out a last batch whose size is no multiple of required_batch_size_multiple, as fairseq does",
    )


@dataclass
class OptimizationConfig(Config):
    """Length of training and what one update is."""

    max_epoch: int = option(0, "stop after this epoch; 0: no bound", low=0)
    max_update: int = option(0, "stop after this update; 0: no bound", low=0)
    stop_time_hours: float = option(0.0, "stop after this many hours of training; 0: no bound", low=0.0)
    clip_norm: float = option(0.0, "largest norm of the gradient; 0: no clipping", low=0.0)
    sentence_avg: bool = option(False, "divide gradients by sentences instead of tokens")
    update_freq: list[int] = option([1], "batches that make one update; the n-th value serves epoch n", low=1)
    lr: list[float] = option([0.25], "learning rate; the n-th value serves epoch n (how depends on the schedule)")
    stop_min_lr: float = option(-1.0, "stop when the learning rate falls to this")
    use_bmuf: bool = option(False, "block-wise model update filtering", refused="BMUF is not supported")
    skip_remainder_batch: bool | None = option(
        False, "leave out an epoch's last batches when they are fewer than update_freq"
    )
    debug_param_names: bool = option(False, "has no effect: messages and checkpoints always name parameters")
    on_nonfinite: str | None = option(
        None,
        "what a loss or gradient that is not finite does: stop; skip (leave the update out); reduce_scale (leave it "
        "out and lower the loss scale, down to common.min_loss_scale); unset: reduce_scale in fp16, else stop",
        choices=("stop", "skip", "reduce_scale"),
    )
    on_oom: str = option(
        "skip",
        "what a batch that does not fit into memory does: skip (leave the update out, in all processes) or stop",
        choices=("skip", "stop"),
    )
    max_skips_in_a_row: int = option(
        10, "stop when more updates than this are left out one after the other (float16 overflows do not count)", low=0
    )


@dataclass
class CheckpointConfig(Config):
    """What is saved, when, and where training starts from."""

    save_dir: str = option("checkpoints", "folder for checkpoints")
    restore_file: str = option("checkpoint_last.pt", "checkpoint to go on from, in save_dir or a path")
    continue_once: str | None = option(None, "checkpoint to go on from unless save_dir already has one")
    finetune_from_model: str | None = option(None, "checkpoint whose weights alone are taken, for a new training")
    allow_partial: bool = option(
        False,
        "take those weights of the checkpoint that fit and tell which did not; where not all do, the optimizer begins "
        "anew",
    )
    reset_dataloader: bool = option(False, "begin with the first batch of an epoch, whatever the checkpoint says")
    reset_lr_scheduler: bool = option(False, "do not take the schedule's state from the checkpoint")
    reset_meters: bool = option(False, "do not take figures (best loss among them) from the checkpoint")
    reset_optimizer: bool = option(False, "do not take the optimizer's state from the checkpoint")
    optimizer_overrides: dict[str, Any] = option({}, "settings to put in place of those in the optimizer's state")
    save_interval: int = option(1, "save every so many epochs", low=1)
    save_interval_updates: int = option(0, "save and validate every so many updates; 0: only by epochs", low=0)
    keep_interval_updates: int = option(-1, "checkpoints made by save_interval_updates that are kept; -1: all")
    keep_interval_updates_pattern: int = option(
        -1, "with keep_interval_updates, never remove checkpoints at multiples of this many updates; -1: none"
    )
    keep_last_epochs: int = option(-1, "epoch checkpoints that are kept; -1: all")
    keep_best_checkpoints: int = option(-1, "best checkpoints that are kept beside checkpoint_best; -1: none")
    no_save: bool = option(False, "save nothing")
    no_epoch_checkpoints: bool = option(False, "save only checkpoint_last and checkpoint_best")
    no_last_checkpoints: bool = option(False, "do not save checkpoint_last")
    no_save_optimizer_state: bool = option(False, "leave the optimizer's state out of checkpoints")
    best_checkpoint_metric: str = option("loss", "validation figure that decides which checkpoint is best")
    maximize_best_checkpoint_metric: bool = option(False, "the largest figure is best, not the smallest")
    patience: int = option(-1, "stop after this many validations without improvement; -1: never")
    checkpoint_suffix: str = option("", "put at the end of checkpoint names, before .pt, in saving and in loading")
    checkpoint_shard_count: int = option(
        1, "files that a checkpoint is read from: NAME_part0.pt, NAME_part1.pt, …, each with some of the weights", low=1
    )
    load_checkpoint_on_all_dp_ranks: bool = option(False, "each rank reads the checkpoint, instead of a broadcast")
    write_checkpoints_asynchronously: bool = option(
        True,
        "write checkpoints while training goes on; it waits only for a copy in memory, which is kept",
        flags=("--write-checkpoints-asynchronously", "--save-async"),
        bare=True,
    )
    model_parallel_size: int = option(
        1, "GPUs that share one model", follows="common.model_parallel_size", refused=_NO_MODEL_PARALLEL
    )
    trust_pickle: bool = option(
        False, "read old checkpoints that hold arbitrary Python objects; only for files you trust, as they can run code"
    )


@dataclass
class GenerationConfig(Config):
    """Search for the output sequence."""

    beam: int = option(5, "beam width", low=1)
    beam_mt: int = option(0, "beam width of the first of two passes; 0: as beam", low=0, refused=_NO_TWO_PASSES)
    nbest: int = option(1, "hypotheses printed for each sentence; at most the beam width", low=1)
    max_len_a: float = option(0.0, "output has at most a*x + b tokens for a source of x tokens: this is a", low=0.0)
    max_len_b: int = option(200, "output has at most a*x + b tokens for a source of x tokens: this is b", low=0)
    max_len_a_mt: float = option(0.0, "max_len_a of the first of two passes", low=0.0, refused=_NO_TWO_PASSES)
    max_len_b_mt: int = option(200, "max_len_b of the first of two passes", low=0, refused=_NO_TWO_PASSES)
    min_len: int = option(1, "shortest output in tokens, without EOS", low=0)
    match_source_len: bool = option(False, "output has as many tokens as the source")
    unnormalized: bool = option(False, "compare hypotheses by their sum of scores, not divided by length")
    no_early_stop: bool = option(False, "has no effect (kept for old commands)")
    no_beamable_mm: bool = option(False, "has no effect (kept for old commands)")
    lenpen: float = option(1.0, "length penalty: below 1 favours shorter, above 1 longer output")
    lenpen_mt: float = option(1.0, "length penalty of the first of two passes", refused=_NO_TWO_PASSES)
    unkpen: float = option(0.0, "taken from the score of every unknown word: above 0 makes fewer, below 0 more")
    replace_unk: str | None = option(
        None,
        "replace unknown words by the source word most attended to, looked up in this two-column dictionary file "
        "(empty: copied as it is)",
        bare="",
    )
    sacrebleu: bool = option(False, "score detokenised text with sacreBLEU")
    score_reference: bool = option(False, "score the given target instead of searching")
    prefix_size: int = option(0, "tokens of the given target that the output must begin with", low=0)
    no_repeat_ngram_size: int = option(
        0, "no sequence of this many tokens occurs twice in an output; 0: no bound", low=0
    )
    sampling: bool = option(False, "draw tokens at random instead of searching")
    sampling_topk: int = option(-1, "draw from the k likeliest tokens; -1: from all")
    sampling_topp: float = option(
        -1.0, "draw from the likeliest tokens that reach this probability; -1: from all", high=1.0
    )
    constraints: str | None = option(
        None,
        "source lines carry words that the output must contain, in that order or in any",
        choices=("ordered", "unordered"),
        bare="ordered",
    )
    temperature: float = option(1.0, "logits are divided by this: above 1 evens them out", low=0.0)
    diverse_beam_groups: int = option(-1, "groups of diverse beam search; -1: off")
    diverse_beam_strength: float = option(0.5, "penalty for tokens that an earlier group chose")
    diverse_beam_reopen_ended: bool = option(
        False, "a group may write on behind the end of one of its hypotheses, as fairseq does by mistake"
    )
    diversity_rate: float = option(-1.0, "penalty by rank among siblings (diverse siblings search); -1: off")
    print_alignment: str | None = option(
        None,
        "print which source words each output word attended to, as positions or as weights",
        choices=("hard", "soft"),
        bare="hard",
    )
    print_step: bool = option(False, "print the number of refinement steps")
    lm_path: str | None = option(None, "language model whose scores are added (shallow fusion)")
    lm_weight: float = option(0.0, "weight of the language model's scores")
    iter_decode_eos_penalty: float = option(0.0, "iterative decoding: penalty against stopping insertion early")
    iter_decode_max_iter: int = option(10, "iterative decoding: most refinement steps", low=0)
    iter_decode_force_max_iter: bool = option(False, "iterative decoding: always take all refinement steps")
    iter_decode_with_beam: int = option(1, "iterative decoding: lengths tried for each sentence", low=1)
    iter_decode_with_external_reranker: bool = option(
        False, "iterative decoding: the last checkpoint is an autoregressive model that chooses among the lengths"
    )
    retain_iter_history: bool = option(False, "iterative decoding: also print every step's output")
    stop_strings: list[str] | None = option(
        None,
        "an output ends where its text has one of these strings (\\n in them is a line end), and is shown up to there "
        "(in the D line and as JSON's text; tokens and their scores are whole). What is in a prefix, or in the text "
        "that a language model continues, does not count",
    )
    retain_dropout: bool = option(False, "keep dropout active while decoding")
    retain_dropout_modules: list[str] | None = option(None, "keep dropout active in modules of these class names only")
    decoding_format: str | None = option(
        None, "special decoding of iterative models", choices=("unigram", "ensemble", "vote", "dp", "bs")
    )
    no_seed_provided: bool = option(False, "leave the random generator unseeded")
    eos_token: str | None = option(None, "symbol that ends the output, where it is not </s>")
    quantize: str = option(
        "none",
        "on a CPU, keep the weights of large linear layers in 8 bits, and multiply in 8 bits: faster where layers are "
        "large, for a small loss of precision (a few hundredths of a BLEU). Half precision on a GPU, or on a CPU made "
        "for it, is common.fp16 or common.bf16",
        choices=("none", "int8"),
    )
    compile: bool = option(
        False,
        "compile the layers of a small Transformer's decoder (torch.compile) when they are first needed. Whether it "
        "gains depends on the machine: measure first. It takes a C++ compiler (on a GPU, Triton), about a minute the "
        "first time, and some seconds at later starts. What is not compiled (large layers, other decoders, steps that "
        "return attention or keep dropout active) runs as before, and the log says so",
    )
    max_len_per_batch: bool = option(
        False, "reckon max_len_a and max_len_b from the padded batch, as fairseq does, not from each sentence"
    )


@dataclass
class EvalLMConfig(Config):
    """Evaluation of language models."""

    output_word_probs: bool = option(False, "print the words of every block with their natural log-probabilities")
    output_word_stats: bool = option(
        False,
        "print of every word its count, the sum of its log-probabilities, whether it has subwords, and sum and count "
        "of those of the words behind it",
    )
    context_window: int = option(
        0,
        "tokens of text before each block that the model reads too, so that every scored token has at least so much "
        "context; they are among task.tokens_per_sample, so blocks are as much shorter",
        low=0,
    )
    reuse_context: bool = option(
        False,
        "with context_window: read each token once, and carry what the model made of the context on to the next block, "
        "instead of reading the context anew with each. Many times as fast. Losses differ a little (mostly they are "
        "lower): the context remembers what was before it. (Where a model sees no further back than the context, as "
        "fconv_lm or decoder_lm with a sliding window may, they are equal, and this is done unasked.) For models "
        "without absolute positions: decoder_lm, lstm_lm, fconv_lm, others with no_token_positional_embeddings",
    )
    softmax_batch: int = option(
        9223372036854775807,
        "most positions whose words are scored at a time, to save memory; results are the same",
        low=1,
    )


@dataclass
class InteractiveConfig(Config):
    """Where interactive decoding reads from."""

    buffer_size: int = option(0, "lines read before they are decoded together; 0: one at a time", low=0)
    input: str = option("-", "file to read; '-': standard input")


@dataclass
class EMAConfig(Config):
    """Exponential moving average of the weights."""

    store_ema: bool = option(False, "keep an exponential moving average of the weights")
    ema_decay: float = option(0.9999, "share of the average that each update keeps", low=0.0, high=1.0)
    ema_start_update: int = option(0, "before this update the average is a plain copy", low=0)
    ema_seed_model: str | None = option(None, "checkpoint that the average starts from")
    ema_update_freq: int = option(1, "average every so many updates", low=1)
    ema_fp32: bool = option(False, "keep the average in float32 even where the model is in half precision")
