"""The command lines of fairseq's documentation, with small data and small sizes in their place."""

from __future__ import annotations

import random
import shlex
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import pytest
import torch

from seqkit.checkpoint.io import read_checkpoint
from seqkit.registry import REGISTRIES
from seqkit_cli.average import main as average
from seqkit_cli.convert import main as convert
from seqkit_cli.eval_lm import main as eval_lm
from seqkit_cli.generate import main as generate
from seqkit_cli.interactive import main as interactive
from seqkit_cli.preprocess import main as preprocess
from seqkit_cli.score import main as score
from seqkit_cli.train import main as train
from seqkit_cli.validate import main as validate

PLUGIN = Path(__file__).resolve().parents[2] / "examples" / "plugin"
SMALL = (
    "--encoder-embed-dim 16 --decoder-embed-dim 16 --encoder-ffn-embed-dim 32 --decoder-ffn-embed-dim 32 "
    "--encoder-layers 1 --decoder-layers 1 --encoder-attention-heads 2 --decoder-attention-heads 2 "
    "--max-update 2 --cpu --num-workers 0 --no-progress-bar "
)
SMALL_LM = (
    "--decoder-embed-dim 16 --decoder-input-dim 16 --decoder-output-dim 16 --decoder-ffn-embed-dim 32 "
    "--decoder-layers 1 --decoder-attention-heads 2 --max-update 2 --cpu --num-workers 0 --no-progress-bar "
)
IWSLT = (
    "data-bin/iwslt14.tokenized.de-en --arch transformer_iwslt_de_en --share-decoder-input-output-embed "
    "--optimizer adam --adam-betas '(0.9, 0.98)' --clip-norm 0.0 --lr 5e-4 --lr-scheduler inverse_sqrt "
    "--warmup-updates 4000 --dropout 0.3 --weight-decay 0.0001 --criterion label_smoothed_cross_entropy "
    "--label-smoothing 0.1 --max-tokens 4096 --eval-bleu "
    """--eval-bleu-args '{"beam": 5, "max_len_a": 1.2, "max_len_b": 10}' --eval-bleu-detok moses """
    "--eval-bleu-remove-bpe --eval-bleu-print-samples --best-checkpoint-metric bleu --maximize-best-checkpoint-metric "
)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A working directory with `data-bin/` of translation, of joined dictionaries, of monolingual text, and a model."""
    folder = tmp_path_factory.mktemp("work")
    rng = random.Random(1)
    for split, count in (("train", 60), ("valid", 9), ("test", 9)):
        lines = [[rng.choice("abcdefgh") for _ in range(rng.randint(2, 7))] for _ in range(count)]
        (folder / f"{split}.de").write_text("".join(" ".join(line) + "\n" for line in lines))
        (folder / f"{split}.en").write_text("".join(" ".join(line[::-1]) + "\n" for line in lines))
        (folder / f"wiki.{split}.tokens").write_text("".join(" ".join(line) + "\n" for line in lines))
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        pair = "--source-lang de --target-lang en --trainpref train --validpref valid --testpref test"
        assert run(preprocess, f"{pair} --destdir data-bin/iwslt14.tokenized.de-en --workers 1") == 0
        assert run(preprocess, f"{pair} --destdir data-bin/wmt16_en_de_bpe32k --joined-dictionary --workers 1") == 0
        wiki = "--trainpref wiki.train.tokens --validpref wiki.valid.tokens --testpref wiki.test.tokens"
        assert run(preprocess, f"--only-source {wiki} --destdir data-bin/wikitext-103 --workers 1") == 0
        shard = "--only-source --source-lang de --target-lang en --joined-dictionary"
        shard += " --srcdict data-bin/wmt16_en_de_bpe32k/dict.de.txt --testpref test --destdir mono/shard00 --workers 1"
        assert run(preprocess, shard) == 0
        (folder / "mono/shard00/dict.en.txt").write_bytes((folder / "mono/shard00/dict.de.txt").read_bytes())
        assert run(train, IWSLT + SMALL + "--no-epoch-checkpoints") == 0
    return folder


@pytest.fixture(autouse=True)
def _in_the_folder(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(folder)


@pytest.fixture
def _plugin() -> Iterator[None]:
    """Forgets what `examples/plugin` registers, so that it can be imported anew."""
    before = {kind: set(registry.names()) | set(registry.variants) for kind, registry in REGISTRIES.items()}
    yield
    for kind, registry in REGISTRIES.items():
        for name in (set(registry.names()) | set(registry.variants)) - before[kind]:
            registry.unregister(name)
    for name in [name for name in sys.modules if name.partition(".")[0] == PLUGIN.name]:
        del sys.modules[name]


def run(main: Callable[[Sequence[str]], int], line: str) -> int:
    return main(shlex.split(line))


def test_iwslt_training_is_what_the_command_line_says() -> None:
    config = read_checkpoint("checkpoints/checkpoint_best.pt").config
    assert config["task"]["data"] == "data-bin/iwslt14.tokenized.de-en"
    assert config["task"]["eval_bleu_remove_bpe"] == "@@ "
    assert config["model"]["_name"] == "transformer"
    assert config["model"]["share_decoder_input_output_embed"] is True
    assert config["model"]["dropout"] == 0.3
    assert config["optimizer"]["adam_betas"] == [0.9, 0.98]
    assert config["optimizer"]["weight_decay"] == 0.0001
    assert config["optimization"]["lr"] == [5e-4]
    assert config["checkpoint"]["maximize_best_checkpoint_metric"] is True


@pytest.mark.parametrize(
    ("line", "outputs"),
    [
        ("--batch-size 128 --beam 5 --remove-bpe", 9),
        ("--beam 4 --lenpen 0.6 --remove-bpe --gen-subset valid --scoring sacrebleu", 9),
        ("--max-tokens 400 --sampling --sampling-topk 3 --beam 2 --nbest 2 -s de -ten", 18),
        ("--task translation --quiet --model_overrides \"{'dropout': 0.0}\"", 0),
    ],
)
def test_generation(line: str, outputs: int, capsys: pytest.CaptureFixture[str]) -> None:
    few = "--path checkpoints/checkpoint_best.pt --max-len-b 5 --cpu --num-workers 0 --no-progress-bar"
    assert run(generate, f"data-bin/iwslt14.tokenized.de-en {line} {few}") == 0
    output = capsys.readouterr().out.splitlines()
    assert output[-1].startswith("Generate valid" if "valid" in line else "Generate test")
    assert sum(row.startswith("H-") for row in output) == outputs


def test_interactive(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (folder / "input").write_text("a b c\nd e\n")
    line = "--path checkpoints/checkpoint_best.pt data-bin/iwslt14.tokenized.de-en --beam 5 --source-lang de "
    line += "--target-lang en --tokenizer space --input input --buffer-size 2 --max-sentences 2 --max-len-b 5 --cpu"
    assert run(interactive, line) == 0
    output = capsys.readouterr().out.splitlines()
    assert [row.split("\t")[0] for row in output if row.startswith(("S", "H"))] == ["S-0", "H-0", "S-1", "H-1"]


def test_validation(capsys: pytest.CaptureFixture[str]) -> None:
    line = (
        "data-bin/iwslt14.tokenized.de-en --task translation --path checkpoints/checkpoint_best.pt --valid-subset valid"
    )
    assert run(validate, f"{line} --max-tokens 100 --cpu --no-progress-bar") == 0
    assert "valid on 'valid' subset | loss" in capsys.readouterr().out


def test_scaling_neural_machine_translation(capsys: pytest.CaptureFixture[str]) -> None:
    line = (
        "data-bin/wmt16_en_de_bpe32k --arch transformer_vaswani_wmt_en_de_big --share-all-embeddings --optimizer adam "
        "--adam-betas '(0.9, 0.98)' --clip-norm 0.0 --lr-scheduler inverse_sqrt --warmup-init-lr 1e-07 "
        "--warmup-updates 4000 --lr 0.0005 --dropout 0.3 --weight-decay 0.0 --criterion label_smoothed_cross_entropy "
        "--label-smoothing 0.1 --max-tokens 3584 --fp16 --save-dir checkpoints/big "
    )
    assert run(train, f"{line}{SMALL} --no-epoch-checkpoints") == 0
    assert "training ended" in capsys.readouterr().out


def test_back_translation(capsys: pytest.CaptureFixture[str]) -> None:
    line = (
        "data-bin/wmt16_en_de_bpe32k --source-lang de --target-lang en --arch transformer_wmt_en_de_big "
        "--share-all-embeddings --dropout 0.3 --weight-decay 0.0 --criterion label_smoothed_cross_entropy "
        "--label-smoothing 0.1 --optimizer adam --adam-betas '(0.9, 0.98)' --clip-norm 0.0 --lr 0.001 "
        "--lr-scheduler inverse_sqrt --warmup-updates 4000 --max-tokens 3584 --update-freq 16 "
        "--upsample-primary 2 --save-dir checkpoints_de_en_parallel "
    )
    assert run(train, f"{line}{SMALL} --no-epoch-checkpoints") == 0
    capsys.readouterr()
    decode = (
        "mono/shard00 --path checkpoints_de_en_parallel/checkpoint_best.pt --skip-invalid-size-inputs-valid-test "
        "--max-tokens 4096 --sampling --beam 1 --source-lang de --target-lang en --gen-subset test "
    )
    assert run(generate, f"{decode} --max-len-b 5 --cpu --num-workers 0 --no-progress-bar") == 0
    output = capsys.readouterr().out
    assert output.count("H-") == 9
    assert "T-" not in output


def test_the_whole_preparation_of_back_translated_data(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Decode monolingual text in two parts, take the pairs out of the output, binarize them, train on both."""
    model = "checkpoints_de_en_reverse"
    train_line = (
        "data-bin/wmt16_en_de_bpe32k --source-lang de --target-lang en --arch transformer_wmt_en_de_big "
        "--share-all-embeddings --dropout 0.3 --weight-decay 0.0 --criterion label_smoothed_cross_entropy "
        "--label-smoothing 0.1 --optimizer adam --adam-betas '(0.9, 0.98)' --clip-norm 0.0 --lr 0.001 "
        f"--lr-scheduler inverse_sqrt --warmup-updates 4000 --max-tokens 60 --update-freq 16 --save-dir {model} "
    )
    small = SMALL.replace("--max-update 2", "--max-epoch 2")
    assert run(train, train_line + small) == 0
    assert run(average, f"--inputs {model} --num-epoch-checkpoints 2 --output {model}/checkpoint.avg10.pt") == 0
    decode = (
        f"mono/shard00 --path {model}/checkpoint.avg10.pt --skip-invalid-size-inputs-valid-test --max-tokens 400 "
        "--sampling --beam 1 --source-lang de --target-lang en --max-len-a 1.2 --max-len-b 5 --num-shards 2"
    )
    pairs: dict[int, dict[str, str]] = {}
    for shard in range(2):
        capsys.readouterr()
        assert run(generate, f"{decode} --shard-id {shard} --cpu --num-workers 0 --no-progress-bar") == 0
        for line in capsys.readouterr().out.splitlines():
            kind, _, rest = line.partition("-")
            if kind in ("S", "H"):
                number, *columns = rest.split("\t")
                pairs.setdefault(int(number), {})[kind] = columns[-1]
    assert sorted(pairs) == list(range(9))
    assert pairs[0]["S"] == (folder / "test.de").read_text().splitlines()[0]
    for kind, lang in (("S", "de"), ("H", "en")):
        (folder / f"bt_data.{lang}").write_text("".join(pairs[number][kind] + "\n" for number in sorted(pairs)))
    binarize = (
        "--source-lang en --target-lang de --joined-dictionary --srcdict data-bin/wmt16_en_de_bpe32k/dict.en.txt "
        "--trainpref bt_data --destdir data-bin/wmt18_en_de_bt --workers 2"
    )
    assert run(preprocess, binarize) == 0
    pair = "--source-lang en --target-lang de --joined-dictionary --trainpref train --validpref valid --workers 1"
    same = "--srcdict data-bin/wmt16_en_de_bpe32k/dict.en.txt --destdir data-bin/para"
    assert run(preprocess, f"{pair} {same}") == 0
    both = folder / "data-bin" / "para_plus_bt"
    both.mkdir()
    for lang in ("en", "de"):
        (both / f"dict.{lang}.txt").symlink_to(folder / f"data-bin/para/dict.{lang}.txt")
        for ending in ("bin", "idx"):
            for split, source in (("train", "para"), ("train1", "wmt18_en_de_bt"), ("valid", "para")):
                file = folder / "data-bin" / source / f"{split.rstrip('1')}.en-de.{lang}.{ending}"
                (both / f"{split}.en-de.{lang}.{ending}").symlink_to(file)
    line = train_line.replace("--source-lang de --target-lang en", "--source-lang en --target-lang de")
    line = line.replace("data-bin/wmt16_en_de_bpe32k", str(both)).replace(model, "checkpoints_plus_bt")
    capsys.readouterr()
    assert run(train, f"{line} --upsample-primary 16 {SMALL} --no-epoch-checkpoints") == 0
    assert f"train: {60 * 16 + 9} sentences" in capsys.readouterr().out


def test_scoring_what_was_generated(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """`grep ^H gen.out | cut -f3-` against `grep ^T gen.out | cut -f2-`, and by compound splitting."""
    few = "--path checkpoints/checkpoint_best.pt --beam 5 --remove-bpe --max-len-b 5 --cpu --num-workers 0"
    capsys.readouterr()
    assert run(generate, f"data-bin/iwslt14.tokenized.de-en {few}") == 0
    output = capsys.readouterr().out.splitlines()
    for kind, column in (("H", 2), ("T", 1)):
        rows = [line.split("\t", column)[column] for line in output if line.startswith(f"{kind}-")]
        (folder / f"gen.out.{kind}").write_text("".join(f"{row}\n" for row in rows))
    assert run(score, "--sys gen.out.H --ref gen.out.T") == 0
    assert capsys.readouterr().out.splitlines()[-1].split(" = ")[1] == output[-1].split(" = ", 2)[1]


def test_language_modeling(capsys: pytest.CaptureFixture[str]) -> None:
    adaptive = (
        "--task language_modeling data-bin/wikitext-103 --save-dir checkpoints/transformer_wikitext-103 "
        "--arch transformer_lm_wiki103 --lr 1.0 --t-mult 2 --lr-period-updates 270000 --lr-scheduler cosine "
        "--lr-shrink 0.75 --warmup-updates 16000 --warmup-init-lr 1e-07 --stop-min-lr 1e-09 --optimizer nag "
        "--min-lr 0.0001 --clip-norm 0.1 --criterion adaptive_loss --max-tokens 3072 --update-freq 3 "
        "--tokens-per-sample 16 --seed 1 --sample-break-mode none --skip-invalid-size-inputs-valid-test "
        "--ddp-backend=legacy_ddp --adaptive-softmax-cutoff 6,9 --adaptive-input-cutoff 6,9 --adaptive-input "
        "--adaptive-input-factor 2 --adaptive-softmax-factor 2 --tie-adaptive-weights --tie-adaptive-proj "
        "--adaptive-softmax-dropout 0.2 "
    )
    assert run(train, adaptive + SMALL_LM + "--no-epoch-checkpoints") == 0
    plain = (
        "--task language_modeling data-bin/wikitext-103 --save-dir checkpoints/another_wikitext-103 "
        "--arch transformer_lm --share-decoder-input-output-embed --dropout 0.1 --optimizer adam "
        "--adam-betas '(0.9, 0.98)' --weight-decay 0.01 --clip-norm 0.0 --lr 0.0005 --lr-scheduler inverse_sqrt "
        "--warmup-updates 4000 --warmup-init-lr 1e-07 --tokens-per-sample 16 --sample-break-mode none "
        "--max-tokens 2048 --update-freq 16 "
    )
    assert run(train, plain + SMALL_LM + "--no-save") == 0
    capsys.readouterr()


def test_evaluating_a_language_model(capsys: pytest.CaptureFixture[str]) -> None:
    line = (
        "data-bin/wikitext-103 --path checkpoints/transformer_wikitext-103/checkpoint_best.pt --batch-size 2 "
        "--tokens-per-sample 16 --context-window 8 --gen-subset test --sample-break-mode none --softmax-batch 1024"
    )
    assert run(eval_lm, f"{line} --cpu --num-workers 0") == 0
    captured = capsys.readouterr()
    assert "Perplexity" in captured.out + captured.err


def test_the_two_grammars_together(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(train, "data-bin/iwslt14.tokenized.de-en --arch transformer_tiny --optimizer adam --print-config "
               "--fp16 dataset.max_tokens=7 --eval-bleu-remove-bpe common.seed=3 model.dropout=0.5") == 0  # fmt: skip
    output = capsys.readouterr().out
    for text in ("max_tokens: 7", "seed: 3", "dropout: 0.5", "eval_bleu_remove_bpe: '@@ '", "fp16: true"):
        assert text in output


def test_a_printed_config_runs_the_same(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    line = IWSLT + SMALL + "--save-dir elsewhere --no-epoch-checkpoints"
    assert run(train, f"{line} --print-config") == 0
    assert not (folder / "elsewhere").exists()
    (folder / "mine.yaml").write_text(capsys.readouterr().out)
    assert run(train, "--config-dir . --config-name mine") == 0
    one, other = read_checkpoint("checkpoints/checkpoint_best.pt"), read_checkpoint("elsewhere/checkpoint_best.pt")
    one.config["checkpoint"]["save_dir"] = "elsewhere"
    assert one.config == other.config
    for name, weight in one.model.items():
        assert weight.equal(other.model[name]), name


@pytest.mark.parametrize(
    ("line", "text"),
    [
        (
            "data-bin --arch transformer --optimizer adam --max-tokns 5",
            "unknown flag --max-tokns; did you mean '--max-tokens'",
        ),
        (
            "data-bin --arch transformer --optimizer adam --print-confg",
            "unknown flag --print-confg; did you mean '--print-config'",
        ),
        ("data-bin --arch transformr --optimizer adam", "--arch: unknown model 'transformr'; did you mean"),
        ("data-bin --arch transformer --optimizer adam --max-tokens x", "dataset.max_tokens='x' is not a whole number"),
        ("data-bin --arch transformer --optimizer adam --tpu", "common.tpu=true cannot be used"),
        ("data-bin --arch transformer", "no optimizer is chosen"),
        ("data-bin other --arch transformer", "unexpected 'other': there is one positional argument"),
        ("data-bin --arch transformer --optimizer adam task.dta=x", "unknown option task.dta"),
    ],
)
def test_mistakes_in_flags(line: str, text: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(train, line) == 2
    error = capsys.readouterr().err
    assert error.startswith("seqkit-train: error: ")
    assert text in error
    assert "Traceback" not in error


@pytest.mark.usefixtures("_plugin")
def test_the_plugin_of_the_examples(capsys: pytest.CaptureFixture[str]) -> None:
    data = "data-bin/iwslt14.tokenized.de-en"
    small = "optimization.max_update=2 dataset.num_workers=0 common.cpu=true checkpoint.no_epoch_checkpoints=true"
    line = (
        f"common.user_dir={PLUGIN} task=reversed_translation task.data={data} model=word_dropout_transformer_tiny "
        "criterion=focal_loss optimizer=sign_sgd lr_scheduler=half_life optimization.lr=1e-3 dataset.max_tokens=400 "
        "model.word_dropout=0.2 lr_scheduler.half_life=50 checkpoint.save_dir=plugin"
    )
    assert run(train, f"{line} {small}") == 0
    flags = (
        f"{data} --user-dir {PLUGIN} --task reversed_translation --arch word_dropout_transformer_tiny --lr 1e-3 "
        "--criterion focal_loss --optimizer sign_sgd --lr-scheduler half_life --max-tokens 400 --word-dropout 0.2 "
        "--half-life 50 --save-dir plugin_by_flags --max-update 2 --num-workers 0 --cpu --no-epoch-checkpoints"
    )
    assert run(train, flags) == 0
    one, other = read_checkpoint("plugin/checkpoint_best.pt"), read_checkpoint("plugin_by_flags/checkpoint_best.pt")
    assert one.config["model"]["_name"] == "word_dropout_transformer"
    assert one.config["model"]["decoder_ffn_embed_dim"] == 32
    assert one.config["criterion"]["focus"] == 2.0
    for name, weight in one.model.items():
        assert weight.equal(other.model[name]), name
    capsys.readouterr()
    assert run(generate, f"{data} --user-dir {PLUGIN} --path plugin/checkpoint_best.pt --max-len-b 5 --cpu") == 0
    assert capsys.readouterr().out.count("\nH-") >= 8


def test_a_copy_of_the_plugin_works_where_it_lies(folder: Path) -> None:
    shutil.copytree(PLUGIN, folder / "my_plugins")
    flags = (
        "data-bin/iwslt14.tokenized.de-en --user-dir my_plugins --task reversed_translation --criterion focal_loss "
        "--arch word_dropout_transformer_tiny --optimizer sign_sgd --lr-scheduler half_life --lr 1e-3 --max-tokens 400 "
        "--save-dir copied --max-update 1 --num-workers 0 --cpu --no-epoch-checkpoints"
    )
    command = [sys.executable, "-m", "seqkit_cli.train", *shlex.split(flags)]
    result = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stderr
    assert read_checkpoint("copied/checkpoint_best.pt").config["criterion"]["_name"] == "focal_loss"


def as_fairseq_wrote_it(path: str) -> dict[str, object]:
    """The content of a checkpoint of seqkit in fairseq's layout."""
    state = read_checkpoint(path)
    return {
        "args": None,
        "cfg": state.config,
        "model": state.model,
        "criterion": None,
        "optimizer_history": [{"num_updates": 2, "lr_scheduler_state": {"best": None}}],
        "extra_state": {"train_iterator": {"epoch": 2, "version": 2, "iterations_in_epoch": 0, "shuffle": True}},
        "task_state": {},
    }


def test_converting_a_checkpoint(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    torch.save(as_fairseq_wrote_it("checkpoints/checkpoint_best.pt"), "old.pt")
    assert run(convert, "old.pt new.pt") == 0
    assert capsys.readouterr().out == "wrote new.pt: transformer, 2 updates, without optimizer state\n"
    state = read_checkpoint("new.pt")
    for name, weight in read_checkpoint("checkpoints/checkpoint_best.pt").model.items():
        assert weight.equal(state.model[name]), name
    before = (folder / "new.pt").read_bytes()
    assert run(convert, "old.pt new.pt") == 2
    assert "new.pt is there already; give another name, or --force" in capsys.readouterr().err
    assert (folder / "new.pt").read_bytes() == before
    assert run(convert, "--force new.pt new.pt") == 0
    lines = [f"data-bin/iwslt14.tokenized.de-en --path {name} --max-len-b 5 --cpu" for name in ("old.pt", "new.pt")]
    capsys.readouterr()
    outputs = []
    for line in lines:
        assert run(generate, line) == 0
        outputs.append(capsys.readouterr().out)
    assert outputs[0] == outputs[1]


@pytest.mark.parametrize(
    ("line", "text"),
    [
        ("nothing.pt new2.pt", "no such checkpoint: nothing.pt"),
        ("checkpoints/checkpoint_best.pt nowhere/new.pt", "there is no folder nowhere"),
        ("checkpoints/checkpoint_best.pt checkpoints", "checkpoints is a folder; give the file to write in it"),
        ("checkpoints/checkpoint_best.pt", "the following arguments are required: NEW; see seqkit-convert --help"),
        ("strange.pt new2.pt", "strange.pt cannot be converted: unknown model 'no_such_model'"),
    ],
)
def test_what_cannot_be_converted(line: str, text: str, capsys: pytest.CaptureFixture[str], folder: Path) -> None:
    strange = as_fairseq_wrote_it("checkpoints/checkpoint_best.pt")
    strange["cfg"] = {**read_checkpoint("checkpoints/checkpoint_best.pt").config, "model": {"_name": "no_such_model"}}
    torch.save(strange, "strange.pt")
    assert run(convert, line) == 2
    assert text in capsys.readouterr().err
    assert not (folder / "new2.pt").exists()
