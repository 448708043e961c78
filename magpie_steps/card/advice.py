"""What should everyone know who trains on such a dataset?"""

OVERLAP = """\
Whatever configuration this card lists beside `default` is made from the rows of `default`, so train
on one of them only. A larger dataset of the same model, settings and seed begins with the rows of a
smaller one, and any two Magpie datasets of one model draw from the same distribution and share
near-duplicates: compare them before mixing, with `magpie-steps report DATASET --compare OTHER`."""

LIMITATIONS = """\
- Everything here was written by a language model. It can be wrong, biased or unsafe, and nobody has
  checked it unless this card has a section on human review.
- A model that is prompted with nothing repeats what it was trained on. Rows can be close to its
  training data, also to benchmarks in it; removing known benchmarks removes only known ones.
- Labels and rewards are other models' judgement, or that of rules where this card says so. A reward
  compares answers of one model better than answers of different models.
- The mix of topics and languages is the model's own habit, not that of people who use it. Magpie
  data alone leave models weak at mathematics and reasoning (the paper's table 3)."""

CITATION = """\
The method is Magpie; please cite its authors:

```bibtex
@article{xu2024magpie,
  title   = {Magpie: Alignment Data Synthesis from Scratch by Prompting Aligned {LLMs} with
             Nothing},
  author  = {Zhangchen Xu and Fengqing Jiang and Luyao Niu and Yuntian Deng and
             Radha Poovendran and Yejin Choi and Bill Yuchen Lin},
  journal = {arXiv preprint arXiv:2406.08464},
  year    = {2024}
}
```"""
