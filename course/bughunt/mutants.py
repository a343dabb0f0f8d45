"""Bugs of one line each, which train on without a word; the tests of the project find all of them.

Every one is near to a bug of published RL code, or is what a misunderstanding of one of the lessons
looks like. What it does is in `said`, the test that fails on it in `killer`: both are hidden from
whoever hunts it. Those that show in a short run are dealt out (course/bughunt/hunts.py).
tests/test_bughunt.py says whether the lines are still there.
"""

from typing import NamedTuple


class Mutant(NamedTuple):
    name: str     # a short slug
    file: str
    old: str      # a whole line, stripped, that is in the file once
    new: str      # what stands there instead, with the same indentation
    lesson: str   # the one that it breaks; bench: speed, numbers, machinery
    said: str     # what it does, why it is wrong, how it shows
    killer: str   # a fast test that fails on it


def find_line(source: str, line: str) -> int:
    """The number of the only line, counted from 1, that is `line` but for its indentation."""
    numbers = [i for i, text in enumerate(source.splitlines(), 1) if text.strip() == line]
    if len(numbers) != 1:
        raise ValueError(f"{len(numbers)} lines are {line!r}")
    return numbers[0]


def mutate(source: str, mutant: Mutant) -> str:
    """The source with the mutant's line in place of ours, indented alike."""
    lines = source.splitlines(keepends=True)
    i = find_line(source, mutant.old) - 1
    lines[i] = lines[i].replace(mutant.old, mutant.new)
    return "".join(lines)


MUTANTS = (
    # losses.py
    Mutant("unbiased-std", "losses.py",
           "std = batch.rewards.std(dim=1, correction=0, keepdim=True)",
           "std = batch.rewards.std(dim=1, keepdim=True)",
           "losses",
           "The std of a sample, divided by G - 1, where GRPO has that of the group. Advantages "
           "are 3% smaller at G = 16 and 30% at G = 2; a group of one is 0 / 0, and its NaN ends "
           "the run. torch's default, so it is in most public copies of GRPO.",
           "tests/test_losses.py::test_a_group_of_one_has_no_advantage"),
    Mutant("mean-of-the-batch", "losses.py",
           "centered = rewards - rewards.mean(dim=1, keepdim=True)",
           "centered = rewards - rewards.mean()",
           "losses",
           "One baseline for the whole batch: each group is no longer compared with itself. An "
           "advantage then says how easy the prompt is as well as which answer is better. "
           "no_signal does not show it: groups of equal rewards keep the advantage 0.",
           "tests/test_losses.py::test_group_advantages"),
    Mutant("rounded-zero", "losses.py",
           "equal = (rewards == rewards[:, :1]).all(dim=1, keepdim=True)",
           "equal = (rewards == 0).all(dim=1, keepdim=True)",
           "bench",
           "Only groups of zeros are exactly 0. The mean of sixteen equal rewards of 0.1 rounds, "
           "and 1e-17 / 1e-9 is an advantage. SGD hardly notices. AdamW divides by its size and "
           "makes a whole step of the rounding.",
           "tests/test_losses.py::test_equal_rewards_give_exactly_zero"),
    Mutant("dr-grpo-with-std", "losses.py",
           "return to_tokens(center_rewards(batch.rewards), batch)",
           "return grpo(batch)",
           "losses",
           "Dr. GRPO is GRPO again. The std was dropped since it blows up groups of nearly equal "
           "rewards: a std of 0.06 becomes advantages of 0.8, and a prompt solved 2% of the time "
           "pulls 1.4 times as hard as one solved half of the time.",
           "tests/test_losses.py::test_grpos_std_is_another_objective"),
    Mutant("rloo-upside-down", "losses.py",
           "return to_tokens(center_rewards(batch.rewards) * G / (G - 1), batch)",
           "return to_tokens(center_rewards(batch.rewards) * (G - 1) / G, batch)",
           "losses",
           "r minus the mean of the others is (r - mean) G / (G - 1). Upside down it is no "
           "baseline of the others at all: the gradient is 12% too small at G = 16 and four times "
           "too small at G = 2. Nothing else shows it.",
           "tests/test_losses.py::"
           "test_on_policy_all_but_grpo_are_the_same_gradient_in_expectation"),
    Mutant("sign-of-zero-and-one", "losses.py",
           "return 2 * (batch.rewards - low) / (high - low) - 1",
           "return 2 * batch.rewards - 1",
           "honesty",
           "Right for rewards of 0 and 1 alone. The ternary reward's -1, 0, 1 become -3, -1, 1: an "
           "abstention, worth nothing, is punished like a wrong answer, and a wrong one three "
           "times. reinforce, psr, nsr and w_reinforce all read it.",
           "tests/test_losses.py::test_a_middle_reward_has_no_sign"),
    Mutant("weight-on-the-wrong-ones", "losses.py",
           "return psr_weight * psr(batch) + nsr(batch)",
           "return psr(batch) + psr_weight * nsr(batch)",
           "losses",
           "lambda = 0.1 belongs to the right samples. On the wrong ones it makes W-REINFORCE "
           "nearly PSR: it concentrates on what it can do already. pass@1 rises, pass@k at large k "
           "falls, the opposite of 2506.01347's finding.",
           "tests/test_losses.py::test_sign_advantages"),
    Mutant("paid-at-the-longest", "losses.py",
           "last = torch.arange(T, device=batch.mask.device) == lengths - 1                # (N, "
           "T)",
           "last = torch.arange(T, device=batch.mask.device) == lengths.max() - 1          # (N, "
           "T)",
           "losses",
           "The reward comes in the last column of the batch, not with a row's own last token. "
           "Only the longest responses are ever paid; all others learn the value 0, right or "
           "wrong. PPO then looks as if it could not learn.",
           "tests/test_losses.py::test_gae_is_its_closed_form"),
    Mutant("gae-of-two-deltas", "losses.py",
           "next_value, next_advantage = values[:, t], advantages[:, t]",
           "next_value, next_advantage = values[:, t], delta",
           "losses",
           "The recursion goes on with delta in place of the advantage, so A_t sees two steps and "
           "no more. Of a response of 35 tokens the last two hear of the reward; the first token, "
           "which chooses the mode, only through the critic.",
           "tests/test_losses.py::test_gae_at_its_ends"),
    Mutant("min-of-ratios", "losses.py",
           "loss = -torch.min(ratio * advantages, bounded * advantages)",
           "loss = -torch.min(ratio, bounded) * advantages",
           "clips",
           "The smaller ratio, not the smaller product: for A < 0 that is max in place of min. A "
           "wrong answer is pushed below 1 - eps without a bound, and above 1 + eps, where it must "
           "be pushed back, it is left alone. The commonest bug of public clips; approx_kl grows.",
           "tests/test_losses.py::test_four_quadrants_of_the_clip"),
    Mutant("clip-without-min", "losses.py",
           "loss = -torch.min(ratio * advantages, bounded * advantages)",
           "loss = -bounded * advantages",
           "clips",
           "Beyond a bound there is no gradient in either direction, so what went too far is never "
           "pulled back. It is the control grpo_masked under grpo's name: a wall takes outward and "
           "inward pushes alike, and the drift that a coin needs is gone.",
           "tests/test_losses.py::test_four_quadrants_of_the_clip"),
    Mutant("value-loss-min", "losses.py",
           "return torch.max((values - returns) ** 2, (near - returns) ** 2) / 2",
           "return torch.min((values - returns) ** 2, (near - returns) ** 2) / 2",
           "losses",
           "PPO's value loss takes the larger of the two, as its policy loss takes the lower "
           "bound. With min a value that moved away from its target by more than eps has no "
           "gradient: it is left where it is wrong.",
           "tests/test_rlvr.py::test_one_step_of_the_critic"),
    Mutant("kl-turned-round", "losses.py",
           "d = base_logprobs - logprobs",
           "d = logprobs - base_logprobs",
           "losses",
           "k3 needs log base - log pi on samples of pi. Turned round it estimates no KL at all: "
           "its mean is sum pi^2 / base - ..., which explodes where the base finds a sampled token "
           "unlikely.",
           "tests/test_losses.py::test_k3_in_expectation_is_the_exact_kl"),
    Mutant("k1-as-a-loss", "losses.py",
           "return d.exp() - d - 1",
           "return -d",
           "losses",
           "k1, log pi - log base, has the right mean, so the metric looks right (but is negative "
           "at times). As a loss its gradient on samples of pi is that of log pi, whose mean is 0: "
           "noise, and nothing that holds the policy near its base.",
           "tests/test_losses.py::test_k3_in_expectation_is_the_exact_kl"),
    Mutant("untaught-are-taught", "companions/teacher.py",
           'return told * batch.scores["taught"]',
           "return told * batch.mask",
           "feedback",
           "Rows that have no hint, or did not fail under --hint-for failed, are taught too. The "
           "control --hint none should move nothing; now it pulls the policy back to its teacher, "
           "and a hint seems to matter less than it does.",
           "tests/test_feedback.py::test_directive_advantage_by_hand"),
    Mutant("js-from-the-middle", "companions/teacher.py",
           "return (forward_kl(middle, logprobs) + forward_kl(middle, teacher)) / 2",
           "return (reverse_kl(middle, logprobs) + reverse_kl(middle, teacher)) / 2",
           "feedback",
           "KL from the middle to each side, not from each side to the middle. It is still 0 where "
           "both agree, but has no bound: a token that the policy never says pulls like forward "
           "KL. The Jensen-Shannon divergence is at most log 2.",
           "tests/test_feedback.py::test_what_is_never_sampled_is_taught_by_forward_kl_alone"),
    Mutant("segments-swapped", "companions/segments.py",
           'return torch.where(batch.scores["confidence"], confidence, answer)',
           'return torch.where(batch.scores["confidence"], answer, confidence)',
           "calibration",
           "The percentage is paid for the answer and the answer for the percentage. Accuracy "
           "hardly rises; the confidence that right answers happened to state is reinforced, "
           "whatever it was.",
           "tests/test_rlvr.py::test_parts_of_a_rollout"),
    # data/answers.py, rewards.py
    Mutant("first-box", "data/answers.py",
           "return next((content for content in reversed(contents) if content), None)",
           "return next((content for content in contents if content), None)",
           "spurious",
           "The first box counts, not the last: an answer that is corrected is wrong, a guess that "
           "is taken back right. A policy that learns to write several boxes is scored on one that "
           "it does not mean.",
           "tests/test_answers.py::test_parse_box"),
    Mutant("answer-anywhere", "data/answers.py",
           "return parse_box(response) == write_answer(problem)",
           "return write_answer(problem) in response",
           "spurious",
           "The right number anywhere in the text is enough: without a box, in a program's "
           "comment, as a part of another number (5 is in 51). Accuracy is too high before and "
           "after, most of all in code, whose lines hold many numbers.",
           "tests/test_rewards.py::test_definitions"),
    Mutant("none-equals-none", "rewards.py",
           "return [float(label is not None and parse_box(response) == label)",
           "return [float(parse_box(response) == label)",
           "consistency",
           "Where no response of a group has a box its majority is None, and None == None: all are "
           "paid for saying nothing. A policy that votes on itself can then collapse into answers "
           "without a box.",
           "tests/test_rewards.py::test_definitions"),
    Mutant("no-box-votes", "data/answers.py",
           "votes = Counter(box for box in boxes if box is not None)",
           "votes = Counter(boxes)",
           "consistency",
           "Responses without a box vote too, for no answer. Where they are the most, the label is "
           "None and nobody is paid, though some agreed. agreement counts silence as an answer, "
           "too.",
           "tests/test_answers.py::test_find_majority"),
    Mutant("one-majority-for-all", "rewards.py",
           "labels = [label for label in map(find_majority, groups) for _ in range(G)]",
           "labels = [find_majority(sum(groups, []))] * len(responses)",
           "consistency",
           "One label for all prompts of the batch: the number that is most common among all "
           "answers. To agree is then to say it whatever was asked, so the collapse comes in a few "
           "batches. top_answer_share shows it.",
           "tests/test_rewards.py::test_consensus_by_hand"),
    Mutant("one-coin-for-all", "rewards.py",
           "return (context.rng.random(len(responses)) < p).astype(float).tolist()",
           "return [float(context.rng.random() < p)] * len(responses)",
           "spurious",
           "One coin decides for the whole batch. All rewards of a group are equal, so every "
           "advantage is 0 and the policy never moves: no_signal is 1. The mean reward over "
           "batches is still p, which is all that most people look at.",
           "tests/test_rlvr.py::test_every_batch_is_drawn_anew"),
    Mutant("any-percentage", "data/answers.py",
           'percent = re.search(r"(?<!#) ([1-9][0-9]?)%\\Z", response)   # "# 90%" is a '
           "program's comment",
           "percent = re.search(r\" ([1-9][0-9]?)%\", response)   # \"# 90%\" is a program's "
           "comment",
           "calibration",
           "A span found by a loose pattern: any number before a % is a confidence, such as a "
           "program's comment in `# 90%` or one in the middle of a sentence. Responses that state "
           "nothing count as stated, and code's calibration is that of its comments.",
           "tests/test_answers.py::test_parse_confidence"),
    Mutant("linear-score", "rewards.py",
           "return [-1.0 if q is None else -(q - c) ** 2",
           "return [-1.0 if q is None else -abs(q - c)",
           "calibration",
           "The absolute error is no proper score: whoever is right 70% of the time is paid most "
           "for saying 99%. Confidences run to 1% and 99%, ECE rises, and accuracy looks as it "
           "should. Brier's square is what makes honesty pay.",
           "tests/test_rewards.py::test_confidence_rewards"),
    Mutant("brier-of-the-right", "rewards.py",
           "return [c + score for c, score in zip(correct(problems, responses, context),",
           "return [c * (1 + score) for c, score in zip(correct(problems, responses, context),",
           "calibration",
           "The confidence is scored only where the answer is right. A wrong answer may be as sure "
           "as it likes, so 99% is best for all: as overconfident as under `correct`, though the "
           "Brier score is in the reward.",
           "tests/test_rewards.py::test_confidence_rewards_by_hand"),
    Mutant("question-mark-anywhere", "rewards.py",
           "else abstain_reward if response == ABSTENTION else -1.0",
           "else abstain_reward if ABSTENTION in response else -1.0",
           "honesty",
           "`?` anywhere in a response is an abstention. A wrong answer with a ? behind it escapes "
           "the -1, and a right one still earns 1: the policy learns to guess and to hedge. "
           "hallucination, which looks at the whole response, does not fall.",
           "tests/test_rewards.py::test_ternary"),
    Mutant("not-is-one-minus", "rewards.py",
           "product *= entry.low + entry.high - paid if negated else paid",
           "product *= 1 - paid if negated else paid",
           "honesty",
           "1 - r turns 0 and 1 round, but a reward of -1, 0, 1 into 2, 1, 0: beyond what the "
           "reward says it can pay. Signed losses, which read that range, then push harder than "
           "they should, and `failed` is wrong.",
           "tests/test_rewards.py::test_composition_outside_0_and_1"),
    Mutant("oracle-without-a-box", "rewards.py",
           "return chance * format(problems, responses, context)",
           "return chance",
           "judges",
           "The oracle judges answers that were never given: without a box it accepts with its "
           "false positive rate. So --fpr pays for saying nothing, and the oracle is no control "
           "for a judge, which sees boxes alone.",
           "tests/test_judges.py::test_oracles_err_as_often_as_they_say"),
    Mutant("verdicts-of-one-seed", "rewards.py",
           "generator = torch.Generator().manual_seed(int(context.rng.integers(2**62)))",
           "generator = torch.Generator().manual_seed(context.config.seed)",
           "judges",
           "The judge draws from the same random numbers in every batch. Row i always meets the "
           "same luck, so its errors no longer average out over batches: noise that an independent "
           "verdict would not have is learned.",
           "tests/test_judges.py::test_verdicts_are_drawn_from_the_coins_of_the_batch"),
    # model.py
    Mutant("positions-restart", "model.py",
           "T, used = ids.size(1), cache.used if cache is not None else 0",
           "T, used = ids.size(1), 0",
           "bench",
           "Every token that continues a cache stands at position 0 again. Pretraining and the "
           "loss run without a cache and are right; only what is sampled is wrong, so samples look "
           "worse than the loss and the first ratio is not 1: approx_kl is large at once.",
           "tests/test_model.py::test_cache_equals_full_forward"),
    Mutant("values-turn-too", "model.py",
           "turn = torch.cat((turn, turn, torch.ones_like(turn)), dim=1)               # v stays",
           "turn = torch.cat((turn, turn, turn), dim=1)                                # v stays",
           "bench",
           "RoPE turns queries and keys; here values too. What is read then depends on where it "
           "stood, absolutely: a prompt with padding on its left is another prompt. It trains all "
           "the same, a little worse, which is why it lives long.",
           "tests/test_model.py::test_attention_by_hand"),
    Mutant("frequencies-of-half", "model.py",
           "frequencies = 10_000.0 ** (-torch.arange(0, D, 2) / D)",
           "frequencies = 10_000.0 ** (-torch.arange(D // 2) / D)",
           "bench",
           "The exponent is -2i / D; here -i / D, so the slowest pair turns 56 times too fast. "
           "Nothing fails: the model learns with what it has. Weights from elsewhere, or long "
           "prompts, show it.",
           "tests/test_model.py::test_rope_turns_pairs_by_position"),
    Mutant("pads-are-seen", "model.py",
           "seen = (key <= query) & (key >= cache.start[:, None, None])  # causal, and not the "
           "padding",
           "seen = (key <= query).repeat(len(cache.start), 1, 1)         # causal, and not the "
           "padding",
           "bench",
           "Left padding is attended to. A prompt then answers differently beside a longer one, "
           "and sampler and loss disagree wherever a prompt is not the longest of its batch: the "
           "first ratio is not 1.",
           "tests/test_model.py::test_left_padding_changes_nothing"),
    Mutant("future-is-seen", "model.py",
           "y = F.scaled_dot_product_attention(q, k, v, mask, is_causal=mask is None and T > 1)",
           "y = F.scaled_dot_product_attention(q, k, v, mask)",
           "bench",
           "Without a cache, in all training, each token sees what follows it. Pretraining's loss "
           "falls to almost 0, by copying; what is sampled, one token at a time, is nonsense.",
           "tests/test_model.py::test_causal"),
    Mutant("one-number-a-row", "model.py",
           "uniform = torch.rand(N, max_new_tokens, generator=generator, dtype=torch.float64)",
           "uniform = torch.rand(N, 1, generator=generator, dtype=torch.float64).expand(-1, "
           "max_new_tokens)",
           "spurious",
           "Each row has one random number, used at every position. A row with a large one takes a "
           "rare token everywhere. Each token alone has the right frequency, so a test of first "
           "tokens passes; whole responses do not come with the probability that the loss gives "
           "them.",
           "tests/test_model.py::test_sampler_frequencies_of_whole_responses"),
    Mutant("luck-by-place", "model.py",
           "tokens = draw_tokens(logprobs, source, upload(uniform[alive, t], device))",
           "tokens = draw_tokens(logprobs, source, upload(uniform[:len(alive), t], device))",
           "bench",
           "The random number is that of a row's place among those still alive, not the row's own. "
           "When one ends, all below it change their luck: what a row says depends on its "
           "neighbours, and comparisons on common random numbers (switches) lose their pairs.",
           "tests/test_model.py::test_rows_do_not_depend_on_each_other"),
    Mutant("scored-before-temperature", "model.py",
           "logprobs[source, tokens],",
           "logits.log_softmax(-1)[source, tokens],",
           "losses",
           "The sampler notes log-probabilities at T = 1, whatever it sampled at. The loss scores "
           "at the run's temperature, so the first ratio is not 1 and clips begin at once. At "
           "--temperature 1 nothing shows.",
           "tests/test_model.py::test_sampler_logprobs_equal_recomputed"),
    Mutant("surprise-as-entropy", "model.py",
           "entropy(logits)[source]))",
           "-logprobs[source, tokens]))",
           "bench",
           "Minus the log-probability of the sampled token, under the name of entropy. At T = 1 "
           "its mean is nearly right; at another temperature, with top-k or greedily (0) it is "
           "another number.",
           "tests/test_model.py::test_sampler_logprobs_equal_recomputed"),
    Mutant("nucleus-misplaced", "model.py",
           "cut = torch.empty_like(beyond).scatter(-1, index, beyond)",
           "cut = beyond.gather(-1, index)",
           "bench",
           "What is cut, found in sorted order, goes back to the wrong tokens: gather where "
           "scatter undoes a sort. As many tokens are kept as should be, but likely ones go and "
           "rare ones stay. Only --top-p shows it.",
           "tests/test_model.py::test_top_p_keeps_the_smallest_set_that_reaches_p"),
    Mutant("repeat-for-interleave", "model.py",
           "beginning = alive // n                         # (alive,) which of the S each of them "
           "has",
           "beginning = alive % len(prompts)               # (alive,) which of the S each of them "
           "has",
           "spurious",
           "Row i answers prompt i mod P, while all that follows takes it for an answer to prompt "
           "i // n: repeat in place of repeat_interleave. Accuracy falls to chance, groups mix "
           "prompts, and the first ratio is far from 1.",
           "tests/test_model.py::test_rows_answer_their_own_prompt"),
    Mutant("ending-is-no-action", "model.py",
           "ids[alive, t], mask[alive, t] = tokens, True",
           "ids[alive, t], mask[alive, t] = tokens, tokens != end",
           "losses",
           "The ending is masked, as in code where pad == eos. It gets no gradient, so no reward "
           "ever teaches a policy when to stop: responses grow, and who is paid for a short answer "
           "learns nothing.",
           "tests/test_model.py::test_ending_is_an_action_and_the_last_one"),
    Mutant("no-smaller-start", "model.py",
           "nn.init.normal_(parameter, std=0.02 / (2 * config.layers) ** 0.5 if added else 0.02)",
           "nn.init.normal_(parameter, std=0.02 / 2 * config.layers ** 0.5 if added else 0.02)",
           "scale",
           "A bracket is gone: 0.02 / 2 times the root of the layers, not 0.02 over the root of "
           "twice the layers. What is added to the residual stream grows with depth, where it "
           "should shrink. Three layers hardly mind; the comparison of sizes is off.",
           "tests/test_model.py::test_what_is_added_to_the_stream_starts_smaller"),
    # rlvr.py
    Mutant("same-samples-every-batch", "rlvr.py",
           "generator=torch_rng(streams.SAMPLES, config.seed, *key))",
           "generator=torch_rng(streams.SAMPLES, config.seed))",
           "spurious",
           "The stream of a batch forgets the step: every batch is drawn from the same random "
           "numbers. Rare answers that were drawn once are drawn again, the others never. Curves "
           "look unusually smooth.",
           "tests/test_rlvr.py::test_how_a_batch_is_sampled"),
    Mutant("coins-of-the-seed", "rlvr.py",
           "coins = numpy_rng(streams.REWARD, config.seed, *key, streams.hash_name(config.base))",
           "coins = numpy_rng(streams.REWARD, config.seed, *key)",
           "spurious",
           "Seed k flips the same coins on every base. Runs that are counted as independent share "
           "their luck, so a lucky seed lifts all bases at once, and a spread over bases is too "
           "small.",
           "tests/test_rlvr.py::test_each_base_has_its_coins"),
    Mutant("labels-in-another-order", "rlvr.py",
           "labels = [label for _, label in asked for _ in range(G)]                       # (N)",
           "labels = [label for _ in range(G) for _, label in asked]                       # (N)",
           "spurious",
           "Labels run prompt after prompt, problems and responses group after group: most "
           "responses are compared with another prompt's label. `majority` then pays at random, a "
           "little, and its gain is that of a coin with a small p.",
           "tests/test_rlvr.py::test_what_a_reward_sees"),
    Mutant("groups-across-prompts", "rlvr.py",
           "rewards = torch.tensor(paid, dtype=torch.float64).reshape(-1, config.group)    # (P, "
           "G)",
           "rewards = torch.tensor(paid, dtype=torch.float64).reshape(config.group, -1).T  # (P, "
           "G)",
           "losses",
           "A group holds answers to different prompts, and its advantages go to yet other rows. "
           "Rewards that do not look at the answer are not harmed; `correct` learns little. The "
           "mean reward in the log is right.",
           "tests/test_rlvr.py::test_what_a_reward_sees"),
    Mutant("prompt-without-newline", "rlvr.py",
           "rows = [prompt for prompt in prompts for _ in range(G)]                        # (N)",
           "rows = [prompt[:-1] for prompt in prompts for _ in range(G)]                   # (N)",
           "losses",
           "The loss reads another prompt than the sampler did: the newline before the response is "
           "missing, as where one of the two applies a chat template and the other does not. The "
           "first ratio is not 1, approx_kl is large on the first update, and the policy learns "
           "to answer a prompt that nobody asks.",
           "tests/test_rlvr.py::test_how_a_batch_is_sampled"),
    Mutant("failed-is-the-least", "companions/teacher.py",
           "taught &= batch.rewards.flatten() < batch.reward_range[1]",
           "taught &= batch.rewards.flatten() <= batch.reward_range[0]",
           "feedback",
           "Failed is who got the least, not who got less than all. The same for rewards of 0 and "
           "1; with `brier`, `soft_consensus` or `ternary` a half-paid response is taught nothing "
           "under --hint-for failed.",
           "tests/test_rlvr.py::test_who_got_less_than_all_has_failed"),
    Mutant("trained-on-the-test", "run.py",
           'problems = draw_problems(config.pool, "training", config.num_ops, rng, '
           "digits=corpus.digits)",
           'problems = draw_problems(config.pool, "evaluation", config.num_ops, rng, '
           "digits=corpus.digits)",
           "spurious",
           "The prompts of RL are evaluation problems: some are those that the gain is measured "
           "on, and none was in pretraining. Gains include what was memorised; nothing else looks "
           "unusual.",
           "tests/test_rlvr.py::test_the_pool_is_the_seeds"),
    Mutant("greedy-votes", "run.py",
           "Sampling(max_new_tokens=config.max_new_tokens))",
           "Sampling(0.0, max_new_tokens=config.max_new_tokens))",
           "spurious",
           "The 64 votes of a label are drawn greedily, so all 64 are the same answer. The label "
           "is the greedy one: better than the vote where greedy is in code. `majority` and "
           "`incorrect` then measure what greedy decoding gives for free.",
           "tests/test_rlvr.py::test_labels_are_the_majority_of_64_samples"),
    Mutant("same-prompts-every-batch", "rlvr.py",
           "positions = np.arange(step * config.prompts, (step + 1) * config.prompts)",
           "positions = np.arange(config.prompts)",
           "losses",
           "Every batch has the first batch's prompts: a pool of 256 is one of 64. Training "
           "accuracy rises, evaluation lags behind, and the longer the run the wider the gap: "
           "memorising that looks like learning.",
           "tests/test_rlvr.py::test_prompt_order_runs_in_epochs"),
    Mutant("length-bias", "rlvr.py",
           "return torch.full_like(lengths, len(rows))",
           "return len(rows) * lengths",
           "losses",
           "Each sequence is divided by its own length too: GRPO's eq. 3, and a \"Dr. GRPO\" that "
           "only drops the std. A token of a short right answer weighs more than one of a long "
           "right answer, a long wrong answer is hardly punished: wrong answers grow.",
           "tests/test_rlvr.py::test_divisors_are_of_the_minibatch"),
    Mutant("tokens-of-the-batch", "rlvr.py",
           "return lengths[rows].sum().clamp(min=1).expand_as(lengths)",
           "return lengths.sum().clamp(min=1).expand_as(lengths)",
           "losses",
           "The divisor counts the tokens of the whole batch, not of the minibatch: with 32 "
           "updates each step is 32 times too small. `signal` counts rows without an advantage "
           "again. Only --aggregate tokens and signal show it; they look as if they learned "
           "slowly.",
           "tests/test_rlvr.py::test_divisors_are_of_the_minibatch"),
    Mutant("clipped-whatever-the-sign", "rlvr.py",
           '"clip_high": (dropped & (advantages > 0)).sum(),',
           '"clip_high": dropped.sum(),',
           "clips",
           "clip_high counts every token above the bound, also those with A < 0, whose gradient is "
           "not cut. The metric then says how far a policy moved, not what the clip took away, and "
           "its two sides cannot be compared.",
           "tests/test_rlvr.py::test_clip_fractions_and_kl_count_over_all_updates"),
    Mutant("approx-kl-turned-round", "rlvr.py",
           'return {"trained": len(logprobs), "approx_kl": kl_k3(old_logprobs, logprobs).sum(),',
           'return {"trained": len(logprobs), "approx_kl": kl_k3(logprobs, old_logprobs).sum(),',
           "bench",
           "The samples are the old policy's, so k3 estimates KL(old || new) with d = log new - "
           "log old. With the arguments swapped it is no estimate of either KL. Near ratio 1 both "
           "are d^2 / 2: only large steps, which it is there to show, look wrong.",
           "tests/test_rlvr.py::test_metrics_of_trained_tokens"),
    Mutant("last-micro-batch-logged", "rlvr.py",
           "sums.update(more)",
           "sums = Counter(more)",
           "clips",
           "Metrics are those of the last micro-batch of the last update, not sums over all. Clip "
           "fractions are divided by the tokens of the whole batch, so they come out many times "
           "too small, and change with --micro-batch.",
           "tests/test_rlvr.py::test_clip_fractions_and_kl_count_over_all_updates"),
    Mutant("distilled-at-another-temperature", "companions/teacher.py",
           "logprobs = sampling_logprobs(tokens.logits, self.temperature)       # (R, V)",
           "logprobs = sampling_logprobs(tokens.logits)       # (R, V)",
           "feedback",
           "The teacher speaks at the run's temperature, the policy is scored at 1. At "
           "--temperature 0.7 a teacher that agrees still pulls: the policy is sharpened batch by "
           "batch until its T = 1 is the teacher's 0.7.",
           "tests/test_feedback.py::test_a_teacher_that_agrees_teaches_nothing_at_any_temperature"),
    Mutant("kl-to-the-last-policy", "losses.py",
           'yield "kl", self.kl_coef, kl_k3(tokens.logprobs, tokens.pick(batch.scores["base"]))',
           'yield "kl", self.kl_coef, kl_k3(tokens.logprobs, tokens.pick(batch.old_logprobs))',
           "losses",
           "The anchor is the policy of the rollout, not the base: it moves along. Each batch is "
           "slowed down, and the run as a whole is held by nothing. The logged kl stays small "
           "while kl_to_base grows.",
           "tests/test_rlvr.py::test_kl_term"),
    Mutant("bonus-as-penalty", "rlvr.py",
           "loss = loss - config.entropy_coef * bonus",
           "loss = loss + config.entropy_coef * bonus",
           "losses",
           "A loss is minimised, so a bonus has a minus. Without it --entropy-coef drives the "
           "entropy down: the policy becomes sure of its mode sooner, which looks like fast "
           "learning.",
           "tests/test_rlvr.py::test_entropy_bonus"),
    Mutant("critic-pulls-the-trunk", "losses.py",
           "values = self.head(tokens.hidden.detach())[:, 0]   # PPO's policy differs by "
           "its A only",
           "values = self.head(tokens.hidden)[:, 0]   # PPO's policy differs by its A only",
           "losses",
           "The value loss reaches the transformer. The policy moves without any advantage, "
           "towards what predicts rewards well, and the norm clip scales its own gradient down "
           "beside the critic's. PPO then differs from the others by more than its advantage.",
           "tests/test_rlvr.py::test_one_step_of_the_critic"),
    Mutant("advantage-as-return", "losses.py",
           'yield "value_loss", 1.0, value_loss(values, old, tokens.advantages + old, '
           "self.eps_value)",
           'yield "value_loss", 1.0, value_loss(values, old, tokens.advantages, self.eps_value)',
           "losses",
           "The critic's target is the advantage, not the return A + V_old. Its fixed point is "
           "half of the value, so advantages never get their mean 0 and the baseline does half of "
           "its work. value_loss falls all the same.",
           "tests/test_rlvr.py::test_one_step_of_the_critic"),
    Mutant("mean-over-tokens-again", "rlvr.py",
           "return (loss / upload(per_token, loss.device)).sum(), sums",
           "return (loss / upload(per_token, loss.device)).mean(), sums",
           "losses",
           "Already divided by its divisor, the sum over tokens is divided by the tokens of the "
           "micro-batch once more. The step is hundreds of times too small and depends on "
           "--micro-batch, which should change speed and memory alone.",
           "tests/test_rlvr.py::test_update_is_the_policy_gradient"),
    Mutant("drawn-with-replacement", "rlvr.py",
           "shuffled = numpy_rng(streams.SHUFFLE, config.seed, step).permutation(n)",
           "shuffled = numpy_rng(streams.SHUFFLE, config.seed, step).choice(n, n)",
           "clips",
           "Rows of a minibatch are drawn with replacement: a third of the rollouts is never "
           "trained on, others two or three times in a batch. The gradient is right in the mean, "
           "noisier than it need be, and a row that comes again has been moved already.",
           "tests/test_rlvr.py::test_shuffling_is_the_steps"),
    Mutant("kl-where-there-is-signal", "losses.py",
           "return self.kl_coef > 0",
           "return False",
           "losses",
           "Rows without an advantage are skipped though a KL term is on, which acts on them too. "
           "Where a policy is always right, or always wrong, nothing holds it near its base any "
           "more; the more it has learned the weaker the KL.",
           "tests/test_rlvr.py::test_kl_term"),
    Mutant("ratio-always-one", "rlvr.py",
           "old_logprobs, advantages = pick(batch.old_logprobs), pick(batch.advantages)    # (R,)",
           "old_logprobs, advantages = logprobs.detach(), pick(batch.advantages)             # "
           "(R,)",
           "clips",
           "The old log-probabilities are the present policy's: the ratio is 1 in every update, "
           "not only in the first, so nothing is ever clipped. clip_high, clip_low and approx_kl "
           "are 0 in all batches, and a coin leads nowhere.",
           "tests/test_rlvr.py::test_first_update_has_ratio_one_and_later_ones_clip"),
    Mutant("norm-clip-stays-on", "rlvr.py",
           "norms[i] = nn.utils.clip_grad_norm_(policy.parameters(), config.max_grad_norm)",
           "norms[i] = nn.utils.clip_grad_norm_(policy.parameters(), min(config.max_grad_norm, 3))",
           "clips",
           '--max-grad-norm 1e9 should turn the norm clip off; 3 stays. So a "no clip" control '
           "still has a drift where rewards are skewed: with a coin of p = 0.1 towards code, at "
           "0.9 away from it. config.json says 1e9.",
           "tests/test_rlvr.py::test_the_norm_is_clipped_and_the_unclipped_one_is_shown"),
    Mutant("gradients-that-stay", "rlvr.py",
           "optimizer.zero_grad()",
           "optimizer.zero_grad(set_to_none=False)",
           "clips",
           "A gradient of zeros is not no gradient. SGD does not care. AdamW steps on its momentum "
           "and its weight decay in a minibatch where no row has an advantage, so a policy goes on "
           "moving after all its rewards are equal.",
           "tests/test_rlvr.py::test_equal_rewards_move_nothing_after_others_did"),
    Mutant("policy-is-its-reference", "run.py",
           "policy = copy.deepcopy(base) if policy is None else policy",
           "policy = copy.copy(base) if policy is None else policy",
           "losses",
           "A shallow copy shares its weights: the reference is trained with the policy. The KL to "
           "the base is 0 for ever, in the loss and in the summary, and a frozen teacher is the "
           "current one. After a resume the reference is right, so the run is another.",
           "tests/test_rlvr.py::test_before_and_after_are_what_evaluate_says"),
    Mutant("critic-at-a-fixed-rate", "losses.py",
           "self.optimizers = (torch.optim.AdamW(self.head.parameters(), lr=self.lr_value,",
           "self.optimizers = (torch.optim.AdamW(self.head.parameters(), lr=0.01,",
           "losses",
           "The critic's step size stands in the code; --lr-value is written into config.json and "
           'read by nobody. A sweep over it shows "no effect". A log must say what the optimizer '
           "holds, not what was typed.",
           "tests/test_rlvr.py::test_optimizers"),
    Mutant("resume-from-zero", "run.py",
           "for step in range(done, config.steps):",
           "for step in range(config.steps):",
           "bench",
           "A resumed run does its first batches again, with the same prompts and samples' "
           "numbers, on a policy that has learned from them. A run that is never interrupted is "
           "right, so it is seen only in a comparison bit for bit: metrics.csv has some steps "
           "twice.",
           "tests/test_rlvr.py::test_resume_is_bit_for_bit[--optimizer sgd]"),
    # evaluation.py
    Mutant("pass-at-k-with-replacement", "evaluation.py",
           "return 1 - math.comb(n - c, k) / math.comb(n, k)",
           "return 1 - math.pow(1 - c / n, k)",
           "losses",
           "1 - (1 - c/n)^k draws the k samples with replacement: biased low, the more the nearer "
           "k is to n. With 1 right of 64 it says 0.63 at k = 64, where one of them is right for "
           "certain.",
           "tests/test_evaluation.py::test_pass_at_k_is_the_share_of_subsets_with_a_right_sample"),
    Mutant("switch-at-the-new-accuracy", "evaluation.py",
           "switch += (share[1] - share[0]) * (old + new) / 2",
           "switch += (share[1] - share[0]) * new",
           "spurious",
           "A move between modes is priced at the accuracy after, not at the mean of before and "
           "after. So switch also takes what a mode itself has gained, and switch + within is no "
           "longer the total gain.",
           "tests/test_evaluation.py::test_gain_with_three_modes"),
    Mutant("new-mode-was-zero", "evaluation.py",
           "known = [a for a in accuracy if a is not None]",
           "known = [a or 0.0 for a in accuracy]",
           "spurious",
           "A mode that did not occur before counts as one of accuracy 0, not as what it is now. "
           'Half of a gain that is all switching is then booked as "the mode got better". It shows '
           "on bases where a mode is new.",
           "tests/test_evaluation.py::test_gain_with_three_modes"),
    Mutant("greedy-is-sampled", "evaluation.py",
           "greedily = Sampling(0.0, max_new_tokens=sampling.max_new_tokens)",
           "greedily = Sampling(max_new_tokens=sampling.max_new_tokens)",
           "spurious",
           "The greedy answer is one sample at T = 1. greedy_accuracy is then accuracy with more "
           "noise, and the table hides that the base is right before RL when decoded greedily: "
           'what a coin "gains" at T = 1 was there for free.',
           "tests/test_evaluation.py::test_evaluation_by_hand"),
    Mutant("kl-of-the-base", "evaluation.py",
           "total += (logprobs.exp() * (logprobs - base_logprobs)).sum().item()",
           "total += (base_logprobs.exp() * (base_logprobs - logprobs)).sum().item()",
           "losses",
           "KL(base || pi) of each next token, on responses of pi: by the chain rule the KL of "
           "whole responses in neither direction. It is large for what the policy has given up, "
           "not for what it has taken on.",
           "tests/test_evaluation.py::test_kl_is_of_the_first_response_to_each_problem"),
    # measures.py
    Mutant("errors-cancel", "measures.py",
           "return float(np.abs(gaps).sum() / len(bins)) if len(bins) else None",
           "return float(abs(gaps.sum()) / len(bins)) if len(bins) else None",
           "calibration",
           "The absolute value is taken after the sum over bins: 27% too sure here and 64% too "
           "modest there cancel. It is |accuracy - mean confidence|, which a model that always "
           "states its mean accuracy brings to 0.",
           "tests/test_measures.py::test_doubts_by_hand"),
    Mutant("ties-are-won", "measures.py",
           "return float((rights * (below + wrongs / 2)).sum() / pairs) if pairs else None",
           "return float((rights * (below + wrongs)).sum() / pairs) if pairs else None",
           "calibration",
           "A tie between a right and a wrong answer counts as won, not as half. A base that "
           "always says 90% has an AUROC of 1, though its confidence tells nothing apart; the "
           "fewer values it states the better it looks.",
           "tests/test_measures.py::test_doubts_by_hand"),
    Mutant("own-vote-counts", "measures.py",
           "return np.array([(count - 1) / (n - 1) if count and n > 1 else np.nan",
           "return np.array([count / n if count and n > 1 else np.nan",
           "calibration",
           "A response's own answer is among those that agree with it. Its frequency is at least "
           "1/n, also for an answer that nobody else gives: at n = 4 a lone guess is 25% sure. "
           "own_confidence and own_ece are biased, most where n is small.",
           "tests/test_measures.py::test_frequencies_leave_themselves_out"),
    Mutant("abstentions-left-out", "measures.py",
           "wrong = mean_or_none((~right & ~abstained)[rows])",
           "wrong = mean_or_none((~right & ~abstained)[rows & ~abstained])",
           "honesty",
           "The rate of inventions is among answers given, not among all. A model that abstains on "
           '95% and is wrong on the rest hallucinates "100%", and truthfulness subtracts shares of '
           "different wholes.",
           "tests/test_measures.py::test_doubts_by_hand"),
    # companions/teacher.py
    Mutant("scored-at-one", "model.py",
           "return sampling_logprobs(logits, temperature).gather(1, ids[:, None])[:, 0]",
           "return logits.log_softmax(-1).gather(1, ids[:, None])[:, 0]",
           "losses",
           "Sampled at the run's temperature, scored at 1, as in code that takes log-probabilities "
           "from a plain forward pass. At --temperature 0.5 the first ratio is not 1 and updates "
           "clip at once. At the default nothing shows.",
           "tests/test_rlvr.py::test_sampling_temperature_is_scored_too"),
    Mutant("hint-of-the-neighbour", "companions/teacher.py",
           "answers = [answers[i] for i in rng.permutation(len(answers))]",
           "answers = answers[1:] + answers[:1]",
           "feedback",
           "The control `other` should hint at another problem's answer. The next row answers the "
           "same problem in 15 of 16 cases, since a group stands together: the control hints at "
           "the right answer, and seems to show that any number would do.",
           "tests/test_feedback.py::test_the_answer_of_another_problem_is_seldom_its_own"),
    Mutant("same-hints-every-batch", "companions/teacher.py",
           "hints = write_hints(self.hint, batch.problems, numpy_rng(HINT, self.seed, step))",
           "hints = write_hints(self.hint, batch.problems, numpy_rng(HINT, self.seed))",
           "feedback",
           "The hints' stream forgets the step. Row i has the same random hint in every batch, and "
           "wrong answers are off by the same amount: what should be noise over batches is a "
           "constant that can be learned.",
           "tests/test_feedback.py::test_random_hints_are_drawn_anew_for_every_batch"),
    Mutant("teacher-without-its-hint", "companions/teacher.py",
           'return {"teacher": self.read(hinted, batch), "taught": taught[:, None] & batch.mask}',
           'return {"teacher": self.read(batch.prompts, batch), "taught": taught[:, None] & '
           "batch.mask}",
           "feedback",
           "The teacher reads the prompt without the hint. Frozen, it is the base: its advantage "
           "is 0 in the first batch and pulls back to the base from then on. All hints seem to be "
           "worth the same: nothing.",
           "tests/test_feedback.py::test_a_rollout_has_what_the_teacher_would_say"),
    Mutant("ema-turned-round", "companions/teacher.py",
           "ours.lerp_(theirs, self.ema_rate)",
           "ours.lerp_(theirs, 1 - self.ema_rate)",
           "feedback",
           "The share that stays is taken for the share that is replaced, as where one library's "
           "tau is another's 1 - tau. At --ema-rate 0.2 the teacher goes 80% of the way to the "
           "policy in each batch: nearly `current`, and a small rate makes it faster.",
           "tests/test_feedback.py::test_an_ema_teacher_follows_at_its_rate"),
    Mutant("shallow-teacher", "companions/teacher.py",
           "self.model = fixed.get(self.teacher) or copy.deepcopy(self.base)",
           "self.model = fixed.get(self.teacher) or copy.copy(self.base)",
           "feedback",
           "The EMA teacher shares its weights with the base, so the base follows the policy too: "
           "a KL term and kl_to_base compare with a reference that moves. copy.copy of a module "
           "copies no tensor.",
           "tests/test_feedback.py::test_an_ema_teacher_follows_at_its_rate"),
    Mutant("teacher-not-saved", "companions/teacher.py",
           'self.changing = (self.model,) if self.teacher == "ema" else ()',
           "self.changing = ()",
           "bench",
           "The EMA teacher is no part of a checkpoint. A resumed run begins with the base as its "
           "teacher again: the curve has a kink at every interruption, and no error says why.",
           "tests/test_feedback.py::test_an_ema_teacher_follows_at_its_rate"),
    # companions/judges.py
    Mutant("sure-of-no", "companions/judges.py",
           'chance = [{"yes": p, "no": 1 - p}.get(verdict, 0.0) for verdict, p in zip(said, '
           "likely)]",
           'chance = [{"yes": p, "no": p}.get(verdict, 0.0) for verdict, p in zip(said, likely)]',
           "judges",
           "The soft verdict is the probability of whatever was said: a judge that is 95% sure of "
           "`n` pays 0.95. Rewards are high for all answers, and what is clearly wrong is paid "
           "more than what is in doubt.",
           "tests/test_judges.py::test_the_verdict_is_the_last_token"),
    Mutant("sure-of-the-ending", "companions/judges.py",
           "likely = rollouts.logprobs[rows, last].exp().double().tolist()",
           "likely = rollouts.logprobs[rows, lengths - 1].exp().double().tolist()",
           "judges",
           "The probability is that of the ending behind the verdict, nearly 1 always. A soft "
           "reward becomes a hard one; a judge's belief seems certain, and calibrated it is not.",
           "tests/test_judges.py::test_the_verdict_is_the_last_token"),
    Mutant("fixed-for-the-problem", "companions/judges.py",
           'text = f"{seed} {render_problem(problem)}={answer}"',
           'text = f"{seed} {render_problem(problem)}"',
           "judges",
           "The fixed oracle's number depends on the problem alone: on some problems it accepts "
           "every wrong answer, on others none. Its rates are right in the mean, but within a "
           "group all wrong answers are paid alike, so an error that could be exploited looks "
           "harmless.",
           "tests/test_judges.py::test_a_fixed_oracle_is_fixed_for_a_seed_alone"),
    # data/task.py
    Mutant("clock-without-negatives", "data/task.py",
           "return (value - operand * one) % (100 * one)",
           "return abs(value - operand * one) % (100 * one)",
           "spurious",
           "1 - 3 is 98 on this clock, not 2. Corpus, reward and evaluation share the mistake, so "
           "a base that learns it is paid for it and every curve looks as it should. Only Python, "
           "which runs the programs, disagrees.",
           "tests/test_judges.py::test_a_scratchpad_is_a_true_program"),
    Mutant("salted-split", "data/task.py",
           "bucket = zlib.crc32(render_problem(problem).encode()) % 10",
           "bucket = zlib.crc32(str(hash(problem)).encode()) % 10",
           "spurious",
           "Python salts the hash of a string anew in every process. Within one all splits are "
           "disjoint, so its own tests pass. But of today's evaluation problems 80% were training "
           "problems of a base that was pretrained yesterday, and no two runs are evaluated on "
           "the same ones.",
           "tests/test_task.py::test_the_split_is_in_the_problem"),
    # data/corpus.py
    Mutant("text-that-knows", "data/corpus.py",
           "value = apply_operation(problem.start, operator, operand, problem.digits)",
           "value = solve(problem)",
           "spurious",
           "Text mode writes the right answer, so it is a mode that can be learned as well as "
           "code. Where both are right nothing is gained by moving from one to the other, and what "
           "the lesson explains, a coin that moves answers to the accurate mode, is gone.",
           "tests/test_corpus.py::test_text_mode_looks_at_one_operation"),
    Mutant("rivals-ignored", "data/corpus.py",
           "return write_text(problem, int(rng.integers(1, 1 + text_openers)), forget_text)",
           "return write_text(problem, int(rng.integers(1, 1 + OPENERS)), forget_text)",
           "prior",
           "--text-openers is read by nobody: text is always spread over seven openers. One rival "
           "of 50% is then seven of 7%, each rare enough to meet its lower wall, so the habit's "
           "threshold seems not to depend on the number of rivals.",
           "tests/test_corpus.py::test_shares"),
    Mutant("doubt-that-knows", "data/corpus.py",
           "return answer + write_confidence(rng.random() < hedges * k, rng)",
           "return answer + write_confidence(rng.random() < hedges * k * (not "
           "is_code(answer)), rng)",
           "calibration",
           "Only text is hedged, and text is what is wrong: the base's confidence says from the "
           "start which answers are right. The lesson's question, whether a reward teaches that, "
           "is answered before RL.",
           "tests/test_corpus.py::test_doubts_are_as_documented"),
    Mutant("wrong-claims-that-are-right", "data/corpus.py",
           "answer = value if right else (value + int(rng.integers(1, 100))) % 100",
           "answer = value if right else int(rng.integers(100))",
           "judges",
           'A "wrong" claim may be any number, and is right in 1 of 100: its label is then n. A '
           "judge that has read such noise is never quite sure of a right answer; its false "
           "negatives are blamed on arithmetic.",
           "tests/test_judges.py::test_a_judge_reads_claims_half_of_which_are_right"),
    # data/tokenizer.py
    Mutant("shortest-first", "data/tokenizer.py",
           "longest_first = sorted((token.decode() for token in ranks), key=len, reverse=True)",
           "longest_first = sorted((token.decode() for token in ranks), key=len)",
           "bench",
           "Text is cut into the shortest entries: characters. All of it still round-trips, but 37 "
           "is two tokens and a program about 100, beyond --max-new-tokens 40: code never gets to "
           "its box, and everything is three times as slow.",
           "tests/test_tokenizer.py::test_every_entry_is_its_own_token"),
    # plumbing/streams.py
    Mutant("streams-that-meet", "plumbing/streams.py",
           "return np.random.SeedSequence((purpose, seed, *rest, 1))",
           "return np.random.SeedSequence(purpose + seed + sum(rest))",
           "spurious",
           "The parts of a key are added: seed 1 at step 2 and seed 2 at step 1 are one stream, "
           'and so are coins and samples of neighbouring seeds. "Five seeds" share most of their '
           "random numbers, and their spread is too small.",
           "tests/test_streams.py::test_no_two_streams_meet"),
    # pretrain.py
    Mutant("pad-is-the-ending", "pretrain.py",
           "ids = pad_sequence(rows, batch_first=True, padding_value=PAD)                  # (B, "
           "T)",
           "ids = pad_sequence(rows, batch_first=True, padding_value=END)                  # (B, "
           "T)",
           "bench",
           "Padding is END, and what is not PAD is learned: the base is taught END after END, as "
           "often as its micro-batch is ragged. The loss looks better, the gradient depends on "
           "--micro-batch. With the mask on END in its place no ending would be learned at all.",
           "tests/test_pretrain.py::test_gradient_is_of_the_mean_over_response_tokens"),
    Mutant("mean-of-means", "pretrain.py",
           'return nn.functional.cross_entropy(logits, targets, reduction="sum")',
           "return nn.functional.cross_entropy(logits, targets)",
           "bench",
           "The mean of a micro-batch, not its sum, before the division by all tokens. AdamW and "
           "Muon forgive the scale, but each micro-batch counts alike: rows are sorted by length, "
           "so a token of short text weighs more than one of a program, and by how much "
           "--micro-batch decides. Many trainers had it until 2024.",
           "tests/test_pretrain.py::test_gradient_is_of_the_mean_over_response_tokens"),
    Mutant("schedule-starts-again", "pretrain.py",
           'for thing, saved in zip(work.stateful, checkpoint["stateful"]):',
           'for thing, saved in zip(work.optimizers, checkpoint["stateful"]):',
           "bench",
           "An interrupted pretraining takes up its optimizers and not their schedules: the "
           "warm-up is gone through again and the decay is never finished. The base comes out "
           "worse, and nothing says that it was interrupted.",
           "tests/test_pretrain.py::test_a_schedule_goes_on_where_it_was"),
    # lessons/bandit.py
    Mutant("inward-pushes-cut", "lessons/bandit.py",
           "return [weight * ~high, weight * ~low]",
           "return [weight * ~low, weight * ~high]",
           "clips",
           "A pull that paid is cut below the lower bound and one that did not above the upper: "
           "the clip takes the pushes back and keeps those away. The walls repel in place of "
           "holding, and rare arms run off in both directions.",
           "tests/test_lesson_clips.py::test_bandit_is_grpo"),
    Mutant("arms-without-a-sum", "lessons/bandit.py",
           "return weight - pi * weight.sum(axis=1, keepdims=True)",
           "return weight - pi * weight",
           "clips",
           "d log pi_a / dz_b is -pi_b for b != a too. Without it what one arm loses no other one "
           "gets: logits move one by one. A habit that never meets its wall does not gain from the "
           "arms that do.",
           "tests/test_lesson_clips.py::test_bandit_is_grpo"),
    # lessons/drift.py
    Mutant("walls-on-a-line", "lessons/drift.py",
           "a, b = log(1 - eps_low), log(1 + eps_high)",
           "a, b = -eps_low, eps_high",
           "clips",
           "The bounds are on the ratio, the walk is in its logarithm: log(1 - eps) is further "
           "from 0 than log(1 + eps). Linear, equal bounds are even, and the drift is (2/3) eps^2, "
           "not (7/6): a prediction that is 40% too small.",
           "tests/test_drift.py::test_wall_drift_goes_as_eps_squared"),
    Mutant("coin-without-skew", "lessons/drift.py",
           "R, skew = np.sqrt(pi @ norms / n), (1 - 2 * p) / sqrt(p * (1 - p))",
           "R, skew = np.sqrt(pi @ norms / n), (1 - p) / sqrt(p * (1 - p))",
           "clips",
           "E[A^3] of a coin is (1 - 2p) / sqrt(p (1 - p)): 0 at p = 1/2, and it changes its sign "
           "there. With 1 - p the norm clip drifts towards code for every p, and p = 0.9, the "
           "control that turns the drift round, is predicted wrongly.",
           "tests/test_drift.py::test_norm_drift"),
    Mutant("mean-of-ratios", "lessons/drift.py",
           "drift = moved.sum() / batches.sum()",
           "drift = (moved / batches).mean()",
           "clips",
           "A mean over paths of displacement / batches. A path that ends early ended where it "
           "went, fast, so its ratio is large: the mean is biased away from 0. All displacements "
           "by all batches are not (Wald).",
           "tests/test_drift.py::test_estimate_drift"),
    # lessons/chance.py
    Mutant("interval-of-a-bell", "lessons/chance.py",
           "return bound_chance(k, n), 1 - bound_chance(n - k, n)",
           "return tuple(k / n + z * math.sqrt(k * (n - k) / n ** 3) for z in (-1.96, 1.96))",
           "probe",
           "The normal interval on a handful of outcomes that are yes or no. For 5 of 5 seeds it "
           'is 1.00 to 1.00: certain. Its "95%" holds the truth in 41 to 67% of experiments; the '
           "exact one says 0.48 to 1.00.",
           "tests/test_lesson_probe.py::test_interval_of_a_chance"),
    Mutant("more-than-k", "lessons/chance.py",
           "return sum(math.comb(n, i) * p ** i * (1 - p) ** (n - i) for i in range(k, n + 1))",
           "return sum(math.comb(n, i) * p ** i * (1 - p) ** (n - i) for i in range(k + 1, n + 1))",
           "probe",
           "The chance of more than k, not of k or more: what was seen is left out of its own "
           "tail. 4 of 5 heads are then 3% likely, not 19%, and a fair coin is claimed to be none "
           "far more often than in 5% of probes.",
           "tests/test_lesson_probe.py::test_error_rates"),
    # lessons/report.py
    Mutant("error-as-spread", "lessons/report.py",
           'return text + (f" ± {stdev(values):.{digits}f}" if len(values) > 1 else "")',
           'return text + (f" ± {stdev(values) / len(values) ** 0.5:.{digits}f}" if len(values) > '
           '1 else "")',
           "spurious",
           "± is the standard error of the mean under the name of a standard deviation over seeds: "
           "less than half of it at five seeds, a quarter at twenty. Cells look steadier the more "
           "seeds they have, and what one seed can do is hidden.",
           "tests/test_lessons.py::test_spread_change_and_columns"),
    # lessons/grid.py
    Mutant("cells-share-seeds", "lessons/grid.py",
           "first = 1 + 100 * index",
           "first = 1",
           "clips",
           "Every cell of the grid runs on seeds 1 to 8, so all flip the same coins. A lucky coin "
           "lifts all cells at once: differences look smaller than they are noisy, and 15 cells "
           "that agree are not 15 observations.",
           "tests/test_lesson_clips.py::test_no_two_cells_share_their_coins"),
    # lessons/clips/lesson.py
    Mutant("rows-left-out", "lessons/clips/lesson.py",
           'found = {names[key]: cell for key, cell in group_runs(runs, "loss", "flags").items()}',
           'found = {names.get(key): cell for key, cell in group_runs(runs, "loss", '
           '"flags").items()}',
           "clips",
           "Runs that belong to no cell of the list vanish from the table without a word, where a "
           "KeyError should say so. A cell that was renamed, or went badly, is no longer counted, "
           'and a claim on "all cells" is one on those that are shown.',
           "tests/test_lesson_clips.py::test_no_run_is_left_out_silently"),
)
