"""The command lines of fairseq's documentation: its pages, READMEs and example scripts, of several of its versions.

Only flags and values, in the order of the pages; shell variables have values in their place. `USABLE` are those for
the tasks and models that seqkit has, `MISSING` need something that it has not, and say what.
"""

from __future__ import annotations

_ADAM = "--optimizer adam --adam-betas '(0.9, 0.98)' --clip-norm 0.0"
_SMOOTHED = "--criterion label_smoothed_cross_entropy --label-smoothing 0.1"
_IWSLT = (
    "data-bin/iwslt14.tokenized.de-en --arch transformer_iwslt_de_en --share-decoder-input-output-embed "
    f"{_ADAM} --lr 5e-4 --lr-scheduler inverse_sqrt --warmup-updates 4000 --dropout 0.3 --weight-decay 0.0001 "
    f"{_SMOOTHED} --max-tokens 4096"
)
_VASWANI = (
    f"data-bin/wmt16_en_de_bpe32k --arch transformer_vaswani_wmt_en_de_big --share-all-embeddings {_ADAM} "
    f"--lr-scheduler inverse_sqrt --warmup-init-lr 1e-07 --warmup-updates 4000 --lr 0.0005 --dropout 0.3 "
    f"--weight-decay 0.0 {_SMOOTHED} --max-tokens 3584"
)
_BACK_TRANSLATION = (
    f"--arch transformer_wmt_en_de_big --share-all-embeddings --dropout 0.3 --weight-decay 0.0 {_SMOOTHED} {_ADAM} "
    "--lr-scheduler inverse_sqrt --warmup-updates 4000 --max-tokens 3584 --update-freq 16"
)
_FSDP_LM = (
    "data-bin/wikitext-103-roberta-bpe-bin --ddp-backend fully_sharded --fp16 --fp16-init-scale 4 --cpu-offload "
    "--checkpoint-activations --task language_modeling --tokens-per-sample 2048 --batch-size 8 "
    """--arch transformer_lm_gpt3_13 --optimizer cpu_adam --adam-betas "(0.9,0.98)" --lr 0.0001 """
    "--lr-scheduler polynomial_decay --warmup-updates 5 --total-num-update 10 --max-update 10 --no-save "
    "--log-format json --log-interval 1"
)
_NORMFORMER = (
    "data-bin --combine-val --train-subset train --num-workers 2 --validate-interval-updates 1000 "
    "--save-interval-updates 1000 --no-epoch-checkpoints --ddp-backend fully_sharded --memory-efficient-fp16 "
    "--fp16-init-scale 4 --checkpoint-activations --arch transformer_lm_gpt --activation-fn gelu "
    "--share-decoder-input-output-embed --task language_modeling --sample-break-mode none --tokens-per-sample 2048 "
    """--optimizer adam --adam-betas "(0.9, 0.98)" --adam-eps 1e-08 --clip-norm 0.0 --lr-scheduler polynomial_decay """
    "--warmup-updates 750 --dropout 0.1 --attention-dropout 0.1 --weight-decay 0.01 --batch-size 16 --update-freq 2 "
    "--required-batch-size-multiple 1 --total-num-update 572204 --max-update 572204 --seed 1 --log-format json "
    "--log-interval 1 --distributed-world-size 8 --distributed-port 13177"
)
_QUANT_NOISE_LM = (
    "--task language_modeling data-bin/wikitext-103 --save-dir checkpoints/transformer_wikitext-103 --adaptive-input "
    "--adaptive-input-cutoff 20000,60000 --adaptive-input-factor 4 --adaptive-softmax-cutoff 20000,60000 "
    "--adaptive-softmax-dropout 0.2 --adaptive-softmax-factor 4.0 --tie-adaptive-proj --tie-adaptive-weights "
    "--arch transformer_lm_gbw --attention-dropout 0.1 --dropout 0.2 --relu-dropout 0.1 --clip-norm 0.1 "
    "--criterion adaptive_loss --ddp-backend legacy_ddp --decoder-attention-heads 8 --decoder-embed-dim 1024 "
    "--decoder-ffn-embed-dim 4096 --decoder-input-dim 1024 --decoder-layers 16 --decoder-normalize-before "
    "--decoder-output-dim 1024 --min-lr 0.0001 --lr-period-updates 270000 --lr-scheduler cosine --lr-shrink 0.75 "
    "--lr 1.0 --t-mult 2.0 --max-tokens 3072 --tokens-per-sample 3072 --momentum 0.99 --optimizer nag "
    "--sample-break-mode none --update-freq 3 --warmup-init-lr 1e-07 --warmup-updates 16000 --weight-decay 0 "
    "--seed 1 --stop-min-lr 1e-09"
)
_LIGHTCONV = (
    "--clip-norm 0 --optimizer adam --lr 0.0005 --source-lang de --target-lang en --max-tokens 4000 --no-progress-bar "
    f"--log-interval 100 --stop-min-lr '1e-09' --weight-decay 0.0001 {_SMOOTHED} --lr-scheduler inverse_sqrt "
    "--ddp-backend=legacy_ddp --max-update 50000 --warmup-updates 4000 --warmup-init-lr '1e-07' "
    "--adam-betas '(0.9, 0.98)' --keep-last-epochs 10 --save-dir save/dynamic_conv_iwslt --dropout 0.3 "
    "--attention-dropout 0.1 --weight-dropout 0.1 --encoder-glu 0 --decoder-glu 0"
)
_NAT = (
    "data-bin/wmt14_en_de_distill --save-dir checkpoints --ddp-backend=legacy_ddp --task translation_lev "
    "--criterion nat_loss --noise {noise} --share-all-embeddings --optimizer adam --adam-betas '(0.9,0.98)' "
    "--lr 0.0005 --lr-scheduler inverse_sqrt --stop-min-lr '1e-09' --warmup-updates 10000 --warmup-init-lr '1e-07' "
    "--label-smoothing 0.1 --dropout 0.3 --weight-decay 0.01 --decoder-learned-pos --encoder-learned-pos "
    "--apply-bert-init --log-format 'simple' --log-interval 100 --fixed-validation-seed 7 --max-tokens 8000 "
    "--save-interval-updates 10000 --max-update 300000 --arch {arch} {more}"
)
_NOISY_CHANNEL = (
    "data_dir/binarized --user-dir examples/fast_noisy_channel --beam 5 --path de_en_seed4.pt --lm-model en_lm.pt "
    "--lm-data lm_data --k2 10 --task noisy_channel_translation --gen-subset valid --remove-bpe --fp16 --batch-size 10 "
)
_MOE = "--user-dir examples/translation_moe/translation_moe_src --task translation_moe --method hMoElp --num-experts 3"

USABLE: tuple[tuple[str, str], ...] = (
    # docs/getting_started.rst
    (
        "interactive",
        "--path wmt14.en-fr.fconv-py/model.pt wmt14.en-fr.fconv-py --beam 5 --source-lang en --target-lang fr "
        "--tokenizer moses --bpe subword_nmt --bpe-codes wmt14.en-fr.fconv-py/bpecodes",
    ),
    (
        "generate",
        "data-bin/iwslt14.tokenized.de-en --path checkpoints/fconv/checkpoint_best.pt --batch-size 128 --beam 5",
    ),
    (
        "generate",
        "data-bin/iwslt14.tokenized.de-en --path checkpoints/fconv/checkpoint_best.pt --beam 5 --remove-bpe --cpu",
    ),
    ("train", f"{_IWSLT} --update-freq 8"),
    ("train", f"{_VASWANI} --max-epoch 70 --fp16"),
    ("train", f"--distributed-port 12345 {_VASWANI}"),
    ("train", f"data-bin1:data-bin2:data-bin3 --arch transformer {_ADAM} --lr 0.1 --max-tokens 4000"),
    ("train", f"--fp16 {_IWSLT}"),
    # examples/translation/README.md
    (
        "generate",
        "data-bin/wmt14.en-fr.newstest2014 --path data-bin/wmt14.en-fr.fconv-py/model.pt --beam 5 --batch-size 128 "
        "--remove-bpe",
    ),
    ("train", _IWSLT),
    (
        "train",
        f"""{_IWSLT} --eval-bleu --eval-bleu-args '{{"beam": 5, "max_len_a": 1.2, "max_len_b": 10}}' """
        "--eval-bleu-detok moses --eval-bleu-remove-bpe --eval-bleu-print-samples --best-checkpoint-metric bleu "
        "--maximize-best-checkpoint-metric",
    ),
    (
        "generate",
        "data-bin/iwslt14.tokenized.de-en --path checkpoints/checkpoint_best.pt --batch-size 128 --beam 5 --remove-bpe",
    ),
    (
        "generate",
        "data-bin/fconv_wmt_en_fr --path checkpoints/fconv_wmt_en_fr/checkpoint_best.pt --beam 5 --remove-bpe",
    ),
    (
        "interactive",
        "data-bin/iwslt17 --source-lang de --target-lang en --path checkpoints/checkpoint_best.pt --buffer-size 2000 "
        "--batch-size 128 --beam 5 --remove-bpe=sentencepiece",
    ),
    # examples/scaling_nmt/README.md, now and as it was
    ("train", f"{_VASWANI} --fp16"),
    ("train", f"{_VASWANI} --fp16 --update-freq 16"),
    ("generate", "data-bin/wmt16_en_de_bpe32k --path checkpoint.avg10.pt --beam 4 --lenpen 0.6 --remove-bpe"),
    # examples/backtranslation
    (
        "train",
        f"--fp16 data-bin/wmt18_en_de --source-lang en --target-lang de {_BACK_TRANSLATION} --lr 0.001 "
        "--max-update 30000 --save-dir checkpoints_en_de_parallel",
    ),
    (
        "train",
        f"--fp16 data-bin/wmt18_en_de --source-lang de --target-lang en {_BACK_TRANSLATION} --lr 0.001 "
        "--max-update 30000 --save-dir checkpoints_de_en_parallel",
    ),
    (
        "generate",
        "--fp16 data-bin/wmt18_de_mono/shard00 --path checkpoints_de_en_parallel/checkpoint_best.pt "
        "--skip-invalid-size-inputs-valid-test --max-tokens 4096 --sampling --beam 1",
    ),
    ("generate", "data-bin/wmt18_de_mono/shard00 --path checkpoint_best.pt --sampling --beam 1 --sampling-topk 10"),
    (
        "train",
        f"--fp16 data-bin/wmt18_en_de_para_plus_bt --upsample-primary 16 --source-lang en --target-lang de "
        f"{_BACK_TRANSLATION} --lr 0.0007 --max-update 100000 --save-dir checkpoints_en_de_parallel_plus_bt",
    ),
    (
        "interactive",
        "data-bin/wmt18_en_de --path checkpoint.avg10.pt -s en -t de --beam 5 --remove-bpe --buffer-size 1024 "
        "--max-tokens 8000",
    ),
    # examples/language_model
    (
        "train",
        "--task language_modeling data-bin/wikitext-103 --save-dir checkpoints/transformer_wikitext-103 "
        "--arch transformer_lm --share-decoder-input-output-embed --dropout 0.1 --optimizer adam "
        "--adam-betas '(0.9, 0.98)' --weight-decay 0.01 --clip-norm 0.0 --lr 0.0005 --lr-scheduler inverse_sqrt "
        "--warmup-updates 4000 --warmup-init-lr 1e-07 --tokens-per-sample 512 --sample-break-mode none "
        "--max-tokens 2048 --update-freq 16 --fp16 --max-update 50000",
    ),
    (
        "eval_lm",
        "data-bin/wikitext-103 --path checkpoints/transformer_wiki103/checkpoint_best.pt --batch-size 2 "
        "--tokens-per-sample 512 --context-window 400",
    ),
    (
        "eval_lm",
        "data-bin/wikitext-103 --path checkpoints/transformer_wiki103/checkpoint_best.pt "
        "--sample-break-mode complete --max-tokens 3072 --context-window 2560 --softmax-batch 1024",
    ),
    (
        "train",
        "--task language_modeling data-bin/wikitext-103 --save-dir checkpoints/transformer_wikitext-103 "
        "--arch transformer_lm_wiki103 --max-update 286000 --lr 1.0 --t-mult 2 --lr-period-updates 270000 "
        "--lr-scheduler cosine --lr-shrink 0.75 --warmup-updates 16000 --warmup-init-lr 1e-07 --stop-min-lr 1e-09 "
        "--optimizer nag --min-lr 0.0001 --clip-norm 0.1 --criterion adaptive_loss --max-tokens 3072 --update-freq 3 "
        "--tokens-per-sample 3072 --seed 1 --sample-break-mode none --skip-invalid-size-inputs-valid-test "
        "--ddp-backend=legacy_ddp",
    ),
    (
        "train",
        "--task language_modeling data-bin/wikitext-103 --save-dir checkpoints/fconv_wikitext-103 "
        "--arch fconv_lm_dauphin_wikitext103 --adaptive-softmax-cutoff 10000,20000,200000 --dropout 0.2 "
        "--criterion adaptive_loss --optimizer nag --clip-norm 0.1 --weight-decay 5e-06 --lr 1.0 "
        "--lr-scheduler reduce_lr_on_plateau --lr-shrink 0.5 --max-tokens 1024 --tokens-per-sample 1024 "
        "--ddp-backend legacy_ddp --max-epoch 35",
    ),
    ("eval_lm", "data-bin/wikitext-103 --path checkpoints/fconv_wiki103/checkpoint_best.pt"),
    # examples/textless_nlp/gslm/ulm
    (
        "train",
        "data-bin/ --task=language_modeling --arch=transformer_lm_big --share-decoder-input-output-embed "
        "--dropout=0.1 --attention-dropout=0.1 --optimizer=adam --adam-betas='(0.9, 0.98)' --clip-norm=1.0 "
        "--lr=0.0005 --lr-scheduler=inverse_sqrt --warmup-updates=4000 --warmup-init-lr=1e-07 "
        "--tokens-per-sample=3072 --update-freq=16 --max-tokens=4096 --num-workers=4 "
        "--skip-invalid-size-inputs-valid-test --max-update=500000 --log-interval=10 --seed=100501 --fp16 "
        "--sample-break-mode=eos",
    ),
    # examples/fully_sharded_data_parallel
    ("train", _FSDP_LM),
    # examples/normformer
    (
        "train",
        f"{_NORMFORMER} --decoder-layers 12 --decoder-embed-dim 768 --decoder-ffn-embed-dim 3072 "
        "--decoder-attention-heads 12 --lr 6e-4",
    ),
    (
        "train",
        f"{_NORMFORMER} --decoder-layers 12 --decoder-embed-dim 768 --decoder-ffn-embed-dim 3072 "
        "--decoder-attention-heads 12 --lr 3e-3 --scale-attn --scale-fc --scale-heads --scale-resids",
    ),
    (
        "train",
        f"{_NORMFORMER} --decoder-layers 32 --decoder-embed-dim 2560 --decoder-ffn-embed-dim 10240 "
        "--decoder-attention-heads 32 --batch-size 4 --update-freq 16 --total-num-update 286102 --max-update 286102 "
        "--lr 1.6e-4 --activation-fn relu_squared",
    ),
    # examples/layerdrop
    (
        "generate",
        "data-bin/wmt --path nmt_checkpoint.pt --beam 8 --lenpen 0.4 --batch-size 64 --remove-bpe --gen-subset test",
    ),
    (
        "eval_lm",
        """wikitext-103 --path checkpoint.pt --model-overrides "{'decoder_layers_to_keep':'0,2,4,6,8,10,12,14'}" """,
    ),
    ("train", f"{_IWSLT} --encoder-layerdrop 0.2 --decoder-layerdrop 0.2"),
    ("train", f"{_IWSLT} --encoder-layers-to-keep 0,2,4 --decoder-layers-to-keep 0,2,4"),
    # examples/quant_noise: what it trains and evaluates, without the noise
    ("train", _QUANT_NOISE_LM),
    (
        "eval_lm",
        "wikitext-103 --path checkpoint --sample-break-mode complete --max-tokens 3072 --context-window 2560 "
        "--softmax-batch 1024 --gen-subset valid",
    ),
    # examples/constrained_decoding
    (
        "interactive",
        "wmt19 --path wmt19/model1.pt --bpe fastbpe --bpe-codes wmt19/bpecodes --constraints -s de -t en --beam 10",
    ),
    (
        "interactive",
        "wmt19 --path wmt19/model1.pt --bpe fastbpe --bpe-codes wmt19/bpecodes --constraints unordered -s de -t en",
    ),
    # examples/joint_alignment_translation
    (
        "generate",
        "binarized --gen-subset test --print-alignment --source-lang en --target-lang de "
        "--path checkpoints/checkpoint_best.pt --beam 5 --nbest 1",
    ),
    # examples/unsupervised_quality_estimation
    ("generate", "bin --path en-de.pt --beam 5 --source-lang en --target-lang de --no-progress-bar --unkpen 5"),
    (
        "generate",
        "bin-repeated --path en-de.pt --beam 5 --source-lang en --target-lang de --no-progress-bar --unkpen 5 "
        "--score-reference --retain-dropout --retain-dropout-modules "
        """'["TransformerModel","TransformerEncoder","TransformerDecoder","TransformerEncoderLayer"]' --seed 46""",
    ),
    (
        "generate",
        "bin-repeated --path en-de.pt --beam 5 --source-lang en --target-lang de --no-progress-bar --retain-dropout "
        "--unkpen 5 --retain-dropout-modules TransformerModel TransformerEncoder TransformerDecoder "
        "TransformerEncoderLayer TransformerDecoderLayer --seed 46",
    ),
    # examples/pay_less_attention_paper
    (
        "generate",
        "data-bin/iwslt14.tokenized.de-en --path save/checkpoint_last10_avg.pt --batch-size 128 --beam 4 --remove-bpe "
        "--lenpen 1 --gen-subset test --quiet",
    ),
    (
        "generate",
        "data-bin/wmt16.en-de.joined-dict.newstest2014 --path save/checkpoint_best.pt --batch-size 128 --beam 5 "
        "--remove-bpe --lenpen 0.5 --gen-subset test",
    ),
    # examples/byte_level_bpe, with a model of today
    (
        "generate",
        "data/bin_bbpe2048 --task translation --source-lang fr --gen-subset test --sacrebleu "
        "--path checkpoints/checkpoint_last.pt --tokenizer moses --moses-target-lang en --bpe byte_bpe "
        "--sentencepiece-model-path data/spm_bbpe2048.model",
    ),
    (
        "interactive",
        "data/bin_bbpe2048 --task translation --path checkpoints/checkpoint_last.pt --input data/test.fr "
        "--tokenizer moses --moses-source-lang fr --moses-target-lang en --bpe byte_bpe "
        "--sentencepiece-model-path data/spm_bbpe2048.model --buffer-size 1000 --max-tokens 10000",
    ),
    (
        "train",
        "data/bin_bbpe2048 --task translation --arch transformer --encoder-layers 2 --decoder-layers 2 --dropout 0.3 "
        "--share-all-embeddings --optimizer adam --adam-betas '(0.9, 0.98)' --lr 5e-4 --lr-scheduler inverse_sqrt "
        f"--warmup-updates 4000 {_SMOOTHED} --log-format 'simple' --log-interval 100 --save-dir checkpoints/bbpe2048 "
        "--max-sentences 100 --max-update 100000 --update-freq 2",
    ),
    # examples/stories and examples/pointer_generator: the decoding
    (
        "generate",
        "data-bin/writingPrompts --path checkpoint_best.pt --batch-size 32 --beam 1 --sampling --sampling-topk 10 "
        """--temperature 0.8 --nbest 1 --model-overrides "{'pretrained_checkpoint':'/path/to/checkpoint'}" """,
    ),
    (
        "interactive",
        "bin --batch-size 32 --task translation --source-lang src --target-lang tgt "
        "--path checkpoints/checkpoint_last.pt --input test.pg.src --buffer-size 200 --max-len-a 0 --max-len-b 60 "
        "--lenpen 1.0 --beam 6 --skip-invalid-size-inputs-valid-test",
    ),
    # docs/tutorial_simple_lstm.rst: the decoding
    ("generate", "data-bin/iwslt14.tokenized.de-en --path checkpoints/checkpoint_best.pt --beam 5 --remove-bpe"),
    # fairseq-validate's page
    (
        "validate",
        "data-bin/iwslt14.tokenized.de-en --task translation --path checkpoint_best.pt --valid-subset valid,test",
    ),
)
"""(command, what follows it)."""

OLD_SPELLINGS: tuple[tuple[str, str], ...] = (
    # examples/scaling_nmt/README.md of 2019
    ("train", f"{_VASWANI} --min-lr 1e-09 --fp16"),
    # examples/pay_less_attention_paper of 2019, with a model that seqkit has
    ("train", f"{_IWSLT} --ddp-backend=no_c10d --min-lr 1e-09"),
    # examples/language_model/README.md of 2019
    (
        "train",
        "--task language_modeling data-bin/wikitext-103 --arch transformer_lm_wiki103 --max-update 286000 --max-lr 1.0 "
        "--t-mult 2 --lr-period-updates 270000 --lr-scheduler cosine --lr-shrink 0.75 --warmup-updates 16000 "
        "--warmup-init-lr 1e-07 --min-lr 1e-09 --optimizer nag --lr 0.0001 --clip-norm 0.1 --criterion adaptive_loss "
        "--max-tokens 3072 --update-freq 3 --tokens-per-sample 3072 --seed 1 --sample-break-mode none "
        "--skip-invalid-size-inputs-valid-test --ddp-backend=no_c10d",
    ),
)

MISSING: tuple[tuple[str, str, str], ...] = (
    # docs/getting_started.rst, examples/translation/README.md
    (
        "train",
        "data-bin/iwslt14.tokenized.de-en --optimizer nag --lr 0.25 --clip-norm 0.1 --dropout 0.2 --max-tokens 4000 "
        "--arch fconv_iwslt_de_en --save-dir checkpoints/fconv",
        "unknown model 'fconv_iwslt_de_en'",
    ),
    (
        "train",
        f"data-bin/wmt17_en_de --arch fconv_wmt_en_de --dropout 0.2 {_SMOOTHED} --optimizer nag --clip-norm 0.1 "
        "--lr 0.5 --lr-scheduler fixed --force-anneal 50 --max-tokens 4000 --save-dir checkpoints/fconv_wmt_en_de",
        "unknown model 'fconv_wmt_en_de'",
    ),
    (
        "train",
        f"data-bin/wmt14_en_fr --arch fconv_wmt_en_fr --dropout 0.1 {_SMOOTHED} --optimizer nag --clip-norm 0.1 "
        "--lr 0.5 --lr-scheduler fixed --force-anneal 50 --max-tokens 3000 --save-dir checkpoints/fconv_wmt_en_fr",
        "unknown model 'fconv_wmt_en_fr'",
    ),
    (
        "train",
        "data-bin/iwslt17.de_fr.en.bpe16k/ --max-epoch 50 --ddp-backend=legacy_ddp --task multilingual_translation "
        "--lang-pairs de-en,fr-en --arch multilingual_transformer_iwslt_de_en --share-decoders "
        "--share-decoder-input-output-embed --optimizer adam --adam-betas '(0.9, 0.98)' --lr 0.0005 "
        f"--lr-scheduler inverse_sqrt --warmup-updates 4000 --warmup-init-lr '1e-07' {_SMOOTHED} --dropout 0.3 "
        "--weight-decay 0.0001 --save-dir checkpoints/multilingual_transformer --max-tokens 4000 --update-freq 8",
        "unknown task 'multilingual_translation'",
    ),
    (
        "interactive",
        "data-bin/iwslt17.de_fr.en.bpe16k/ --task multilingual_translation --lang-pairs de-en,fr-en --source-lang de "
        "--target-lang en --path checkpoint_best.pt --buffer-size 2000 --batch-size 128 --beam 5 "
        "--remove-bpe=sentencepiece",
        "unknown task 'multilingual_translation'",
    ),
    # docs/tutorial_simple_lstm.rst, docs/tutorial_classifying_names.rst
    (
        "train",
        "data-bin/iwslt14.tokenized.de-en --arch tutorial_simple_lstm --encoder-dropout 0.2 --decoder-dropout 0.2 "
        "--optimizer adam --lr 0.005 --lr-shrink 0.5 --max-tokens 12000",
        "unknown model 'tutorial_simple_lstm'",
    ),
    (
        "train",
        "names-bin --task simple_classification --arch pytorch_tutorial_rnn --optimizer adam --lr 0.001 "
        "--lr-shrink 0.5 --max-tokens 1000",
        "unknown task 'simple_classification'",
    ),
    # examples/pay_less_attention_paper
    (
        "train",
        f"data-bin/iwslt14.tokenized.de-en {_LIGHTCONV} -a lightconv_iwslt_de_en",
        "unknown model 'lightconv_iwslt_de_en'",
    ),
    (
        "train",
        f"data-bin/wmt16_en_de_bpe32k {_LIGHTCONV} --arch lightconv_wmt_en_de_big",
        "unknown model 'lightconv_wmt_en_de_big'",
    ),
    (
        "train",
        f"data-bin/wmt14_en_fr {_LIGHTCONV} --arch lightconv_wmt_en_fr_big",
        "unknown model 'lightconv_wmt_en_fr_big'",
    ),
    # examples/stories
    (
        "train",
        "data-bin/writingPrompts -a fconv_self_att_wp --lr 0.25 --optimizer nag --clip-norm 0.1 --max-tokens 1500 "
        "--lr-scheduler reduce_lr_on_plateau --decoder-attention True --encoder-attention False "
        "--criterion label_smoothed_cross_entropy --weight-decay .0000001 --label-smoothing 0 --source-lang wp_source "
        "--target-lang wp_target --gated-attention True --self-attention True --project-input True --pretrained False",
        "unknown model 'fconv_self_att_wp'",
    ),
    # examples/translation_moe
    (
        "train",
        f"--ddp-backend='legacy_ddp' data-bin/wmt17_en_de --max-update 100000 {_MOE} --mean-pool-gating-network "
        f"--arch transformer_wmt_en_de --share-all-embeddings {_ADAM} --lr-scheduler inverse_sqrt "
        "--warmup-init-lr 1e-07 --warmup-updates 4000 --lr 0.0007 --dropout 0.1 --weight-decay 0.0 "
        "--criterion cross_entropy --max-tokens 3584",
        "examples/translation_moe/translation_moe_src",
    ),
    (
        "generate",
        f"data-bin/wmt17_en_de --path checkpoint_best.pt --beam 1 --remove-bpe {_MOE} --gen-expert 0",
        "examples/translation_moe/translation_moe_src",
    ),
    # examples/joint_alignment_translation
    (
        "train",
        f"binarized --arch transformer_wmt_en_de_big_align --share-all-embeddings {_ADAM} --activation-fn relu "
        "--lr 0.0002 --lr-scheduler inverse_sqrt --warmup-updates 4000 --warmup-init-lr 1e-07 --dropout 0.3 "
        "--attention-dropout 0.1 --weight-decay 0.0 --max-tokens 3500 --label-smoothing 0.1 --save-dir ./checkpoints "
        "--log-interval 1000 --max-update 60000 --keep-interval-updates -1 --save-interval-updates 0 "
        "--load-alignments --criterion label_smoothed_cross_entropy_with_alignment --fp16",
        "unknown model 'transformer_wmt_en_de_big_align'",
    ),
    # examples/nonautoregressive_translation
    *(
        ("train", _NAT.format(noise=noise, arch=arch, more=more), "unknown task 'translation_lev'")
        for arch, noise, more in (
            ("levenshtein_transformer", "random_delete", ""),
            ("nonautoregressive_transformer", "full_mask", "--pred-length-offset --length-loss-factor 0.1"),
            (
                "nacrf_transformer",
                "full_mask",
                "--pred-length-offset --length-loss-factor 0.1 --word-ins-loss-factor 0.5 --crf-lowrank-approx 32 "
                "--crf-beam-approx 64",
            ),
            (
                "iterative_nonautoregressive_transformer",
                "full_mask",
                "--pred-length-offset --length-loss-factor 0.1 --train-step 4 --dae-ratio 0.5 --stochastic-approx",
            ),
            ("insertion_transformer", "random_delete", ""),
            ("cmlm_transformer", "random_mask", ""),
        )
    ),
    (
        "generate",
        "data-bin/wmt14_en_de_distill --gen-subset test --task translation_lev --path checkpoint_best.pt "
        "--iter-decode-max-iter 9 --iter-decode-eos-penalty 0 --beam 1 --remove-bpe --print-step --batch-size 400",
        "unknown task 'translation_lev'",
    ),
    (
        "generate",
        "data-bin/wmt14_en_de_distill --gen-subset test --task translation_lev --path a.pt:b.pt "
        "--iter-decode-max-iter 9 --iter-decode-eos-penalty 0 --iter-decode-with-beam 9 "
        "--iter-decode-with-external-reranker --beam 1 --remove-bpe --print-step --batch-size 100",
        "unknown task 'translation_lev'",
    ),
    # examples/megatron_11b
    (
        "train",
        "data --distributed-world-size 8 --memory-efficient-fp16 --num-workers 2 --model-parallel-size 8 "
        "--criterion vocab_parallel_cross_entropy --task language_modeling --sample-break-mode none "
        "--tokens-per-sample 1024 --arch transformer_lm_megatron_11b --share-decoder-input-output-embed "
        """--optimizer adam --adam-betas "(0.9, 0.98)" --adam-eps 1e-08 --clip-norm 0.0 --lr-scheduler inverse_sqrt """
        "--lr 0.00015 --warmup-updates 3000 --weight-decay 0.01 --dropout 0.1 --attention-dropout 0.1 --batch-size 2 "
        "--max-update 300000",
        "unknown model 'transformer_lm_megatron_11b'",
    ),
    (
        "eval_lm",
        "wikitext103-bin/ --path megatron_11b/model.pt --task language_modeling --gen-subset test --batch-size 8 "
        "--criterion cross_entropy --context-window 992 --distributed-world-size 8 --model-parallel-size 8",
        "common.model_parallel_size=8",
    ),
    # examples/moe_lm
    (
        "train",
        "data --ddp-backend fully_sharded --memory-efficient-fp16 --checkpoint-activations --task dummy_lm "
        "--tokens-per-sample 2048 --arch transformer_lm_gpt --share-decoder-input-output-embed --decoder-layers 24 "
        "--moe-expert-count 8 --moe-freq 2 --criterion moe_cross_entropy --optimizer adam --fp16-adam-stats "
        "--lr 0.0005",
        "unknown criterion 'moe_cross_entropy'",
    ),
    # examples/fast_noisy_channel
    (
        "generate",
        f"{_NOISY_CHANNEL} --combine-method lm_only --lenpen 0.16 --lm-wt 0.14",
        "examples/fast_noisy_channel",
    ),
    (
        "generate",
        f"{_NOISY_CHANNEL} --channel-model en_de.big.seed4.pt --combine-method noisy_channel --lenpen 0.21 "
        "--lm-wt 0.50 --ch-wt 0.30 --channel-scoring-type src_vocab --top-k-vocab 500",
        "examples/fast_noisy_channel",
    ),
    # examples/truncated_bptt, examples/adaptive_span
    (
        "train",
        "--user-dir examples/truncated_bptt data-bin/wikitext-103/ --task truncated_bptt_lm --tokens-per-sample 150 "
        "--batch-size 15 --max-update 200000 --arch transformer_xl --n-layer 16 --d-model 410 --n-head 10 --d-head 41 "
        "--d-inner 2100 --dropout 0.1 --dropatt 0.0 --mem-len 150 --optimizer adam --clip-norm 0.25 "
        "--lr-scheduler cosine --warmup-updates 0 --min-lr 0.0 --lr 0.00025 --log-format json --log-interval 25 --fp16",
        "examples/truncated_bptt",
    ),
    (
        "eval_lm",
        "data-bin/wikitext-103/ --path checkpoints/checkpoint_best.pt --user-dir examples/truncated_bptt/ "
        "--task truncated_bptt_lm --batch-size 1 --required-batch-size-multiple 1 "
        """--model-overrides '{"mem_len":640,"clamp_len":400,"same_length":True}' --tokens-per-sample 64""",
        "examples/truncated_bptt",
    ),
    # examples/quant_noise
    ("train", f"{_QUANT_NOISE_LM} --quant-noise-pq 0.05 --quant-noise-pq-block-size 8", "quant_noise_pq=0.05"),
    ("train", f"{_IWSLT} --quant-noise-scalar 0.5", "quant_noise_scalar=0.5"),
    # examples/mbart, examples/multilingual, examples/m2m_100, examples/latent_depth
    (
        "train",
        "path_2_data --encoder-normalize-before --decoder-normalize-before --arch mbart_large --layernorm-embedding "
        "--task translation_from_pretrained_bart --source-lang en_XX --target-lang ro_RO "
        "--criterion label_smoothed_cross_entropy --label-smoothing 0.2 --optimizer adam --adam-eps 1e-06 "
        "--adam-betas '(0.9, 0.98)' --lr-scheduler polynomial_decay --lr 3e-05 --warmup-updates 2500 "
        "--total-num-update 40000 --restore-file mbart.cc25 --reset-optimizer --reset-meters --reset-dataloader "
        "--reset-lr-scheduler --langs ar_AR,cs_CZ --ddp-backend legacy_ddp",
        "unknown task 'translation_from_pretrained_bart'",
    ),
    (
        "generate",
        "path_2_data --path model.pt --task translation_from_pretrained_bart --gen-subset test -t ro_RO -s en_XX "
        "--bpe 'sentencepiece' --sentencepiece-model sentence.bpe.model --sacrebleu --remove-bpe 'sentencepiece' "
        "--batch-size 32 --langs ar_AR,cs_CZ",
        "unknown task 'translation_from_pretrained_bart'",
    ),
    (
        "train",
        "path_2_data --encoder-normalize-before --decoder-normalize-before --arch transformer --layernorm-embedding "
        "--task translation_multi_simple_epoch --sampling-method temperature --sampling-temperature 1.5 "
        "--encoder-langtok src --decoder-langtok --lang-dict langs --lang-pairs en-cs,cs-en "
        "--criterion label_smoothed_cross_entropy --optimizer adam --lr 3e-05",
        "unknown task 'translation_multi_simple_epoch'",
    ),
    (
        "generate",
        "data_bin --batch-size 32 --path 418M_last_checkpoint.pt --fixed-dictionary model_dict.128k.txt -s en -t fr "
        "--remove-bpe 'sentencepiece' --beam 5 --task translation_multi_simple_epoch --lang-pairs pairs.txt "
        "--decoder-langtok --encoder-langtok src --gen-subset test",
        "unknown task 'translation_multi_simple_epoch'",
    ),
    (
        "generate",
        "data_bin --batch-size 1 --path 12b_last_chk_4_gpus.pt -s de -t fr --beam 5 --fp16 --dataset-impl mmap "
        "--distributed-world-size 1 --distributed-no-spawn --pipeline-model-parallel --pipeline-chunks 1 "
        "--pipeline-encoder-balance '[1,15,10]' --pipeline-encoder-devices '[0,1,0]'",
        "distributed_training.pipeline_model_parallel=true",
    ),
    (
        "train",
        "databin --user-dir examples/latent_depth/latent_depth_src --lang-pairs eng-aze,eng-bel "
        "--arch multilingual_transformer_iwslt_de_en --task multilingual_translation_latent_depth "
        f"{_SMOOTHED} --optimizer adam --lr 0.0015",
        "examples/latent_depth/latent_depth_src",
    ),
    # examples/knowledge_distillation_translation
    (
        "train",
        "bin --max-source-positions 210 --max-target-positions 210 --max-update 1000000 --max-tokens 8192 "
        "--arch transformer --activation-fn gelu --dropout 0.2 --task kd_translation "
        "--distil-strategy word_and_seq_level --teacher-temp 3 --student-temp 3 --teacher-checkpoint-path teacher "
        "--criterion kd_label_smoothed_cross_entropy --label-smoothing 0.1 --alpha 0.5 --optimizer adam --lr 0.0005",
        "unknown criterion 'kd_label_smoothed_cross_entropy'",
    ),
    # examples/byte_level_bpe, examples/pointer_generator
    (
        "train",
        "data/bin --task translation --user-dir examples/byte_level_bpe/gru_transformer --arch gru_transformer "
        f"--encoder-layers 2 --decoder-layers 2 --optimizer adam --lr 5e-4 {_SMOOTHED}",
        "examples/byte_level_bpe/gru_transformer",
    ),
    (
        "train",
        "bin --user-dir examples/pointer_generator/pointer_generator_src --max-tokens 4096 --task translation "
        "--truncate-source --arch transformer_pointer_generator --alignment-layer -2 --alignment-heads 1 "
        "--source-position-markers 1000 --optimizer adam",
        "examples/pointer_generator/pointer_generator_src",
    ),
)
"""(command, what follows it, what the error names)."""

PREPROCESS: tuple[str, ...] = (
    # docs/getting_started.rst, examples/translation
    "--source-lang de --target-lang en --trainpref t/train --validpref t/valid --testpref t/test --destdir bin",
    "--source-lang de --target-lang en --trainpref t/train --validpref t/valid --testpref t/test --destdir bin "
    "--workers 20",
    "--source-lang en --target-lang de --trainpref t/train --validpref t/valid --testpref t/test --destdir bin "
    "--thresholdtgt 0 --thresholdsrc 0 --workers 20",
    "--source-lang de --target-lang en --trainpref t/train.bpe.de-en --validpref t/valid0,t/valid1,t/valid2 "
    "--destdir bin --workers 10",
    "--source-lang fr --target-lang en --trainpref t/train --validpref t/valid0,t/valid1 --tgtdict bin/dict.en.txt "
    "--destdir bin --workers 10",
    "--source-lang fr --target-lang en --trainpref t/train --validpref t/valid --joined-dictionary "
    "--tgtdict bin/dict.en.txt --destdir bin --workers 10",
    # examples/scaling_nmt
    "--source-lang en --target-lang de --trainpref t/train.tok.clean.bpe.32000 --validpref t/newstest2013 "
    "--testpref t/newstest2014 --destdir bin --nwordssrc 32768 --nwordstgt 32768 --joined-dictionary --workers 20",
    # examples/backtranslation
    "--joined-dictionary --source-lang en --target-lang de --trainpref t/train --validpref t/valid --testpref t/test "
    "--destdir bin --thresholdtgt 0 --thresholdsrc 0 --workers 20",
    "--only-source --source-lang de --target-lang en --joined-dictionary --srcdict bin/dict.de.txt "
    "--testpref t/bpe.monolingual.dedup.00 --destdir mono/shard00 --workers 20",
    "--source-lang en --target-lang de --joined-dictionary --srcdict bin/dict.en.txt --trainpref t/bt_data "
    "--destdir bt --workers 20",
    # examples/language_model, examples/textless_nlp/gslm/ulm, examples/adaptive_span, examples/megatron_11b
    "--only-source --trainpref t/wiki.train.tokens --validpref t/wiki.valid.tokens --testpref t/wiki.test.tokens "
    "--destdir bin --workers 20",
    "--only-source --trainpref data/train.txt --validpref data/valid.txt --testpref data/test.txt --destdir bin/ "
    "--workers 40",
    "--only-source --trainpref train.txt --validpref valid.txt --testpref test.txt --destdir bin/ --joined-dictionary "
    "--workers 20",
    "--only-source --testpref wiki.test.bpe --srcdict megatron_11b/dict.txt --destdir bin",
    # examples/stories
    "--source-lang wp_source --target-lang wp_target --trainpref t/train --validpref t/valid --testpref t/test "
    "--destdir bin --padding-factor 1 --thresholdtgt 10 --thresholdsrc 10",
    # docs/tutorial_classifying_names.rst
    "--trainpref names/train --validpref names/valid --testpref names/test --source-lang input --target-lang label "
    "--destdir names-bin --dataset-impl raw",
    # examples/joint_alignment_translation
    "--source-lang en --target-lang de --trainpref bpe.32k/train --validpref bpe.32k/valid --testpref bpe.32k/test "
    "--align-suffix align --destdir binarized/ --joined-dictionary --workers 32",
    # examples/unsupervised_quality_estimation, examples/fast_noisy_channel, examples/m2m_100, examples/mbart
    "--srcdict m/dict.en.txt --tgtdict m/dict.de.txt --source-lang en --target-lang de --testpref tmp/bpe "
    "--destdir tmp/bin --workers 4",
    "-s de -t en --testpref data_dir/bpe.wmt18.de-en --destdir data_dir/binarized --srcdict s.txt --tgtdict t.txt",
    "--source-lang de --target-lang fr --testpref spm.de-fr --thresholdsrc 0 --thresholdtgt 0 --destdir data_bin "
    "--srcdict data_dict.128k.txt --tgtdict data_dict.128k.txt",
    "--source-lang en --target-lang ro --trainpref d/train.spm --validpref d/valid.spm --testpref d/test.spm "
    "--destdir d/bin --thresholdtgt 0 --thresholdsrc 0 --srcdict dict.txt --tgtdict dict.txt --workers 70",
    # examples/pointer_generator
    "--source-lang src --target-lang tgt --trainpref train.pg --validpref valid.pg --destdir bin --workers 60 "
    "--srcdict dict.pg.txt --joined-dictionary",
)

SCORE: tuple[str, ...] = (
    # examples/translation, examples/backtranslation/tokenized_bleu.sh, scripts/compound_split_bleu.sh
    "--sys gen.out.sys --ref gen.out.ref",
    "--ref gen.out.ref",
)
