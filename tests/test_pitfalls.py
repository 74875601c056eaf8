"""The mistakes that DQN implementations make, and the test that catches each here.

Numbers are those that the docstrings of the other test files name.
"""

import re
from pathlib import Path

PITFALLS = {
    1: ("maximum over the wrong two frames", "test_screen_is_the_maximum_of_the_last_two_frames"),
    2: ("maximum with a stale frame", "test_a_repeat_cut_short_shows_only_its_own_frames"),
    3: ("maximum after luminance", "test_maximum_is_taken_over_colours_before_luminance"),
    4: ("red and blue swapped", "test_a_pure_colour_has_its_grey_level"),
    5: ("point-sampled resize", "test_every_source_pixel_is_seen_and_frames_are_box_averages"),
    6: ("width and height swapped", "test_orientation_is_kept"),
    7: ("crop that cuts the paddle", "test_the_kept_rows_hold_paddle_and_ball"),
    8: ("not divided by 255, or floats kept", "test_a_white_frame_enters_the_first_convolution"),
    9: ("stack reversed or aliased", "test_the_stack_is_the_last_4_screens_oldest_first"),
    10: ("stack over two episodes", "test_two_episodes_of_different_colour_are_never_in_one_stack"),
    11: ("stack at a lost life", "test_a_lost_life_is_told_beside_terminated_and_the_game_goes_on"),
    12: ("replay pads unlike acting", "test_samples_are_exactly_the_valid_transitions"),
    13: ("stack over the write head", "test_no_stack_mixes_newest_and_oldest_frames"),
    14: ("indices that are not there", "test_valid_transitions_are_those_whose_five_frames"),
    15: ("terminal transition lost", "test_the_reward_of_a_terminal_stands_on_its_own_transition"),
    16: ("terminal flag on s", "test_the_reward_of_a_terminal_stands_on_its_own_transition"),
    17: ("terminal target forced", "test_a_terminal_with_reward_one_has_the_target_one"),
    18: ("truncation as termination", "test_truncation_is_told_apart_from_termination"),
    19: ("bootstrap from the next game", "test_a_transition_cut_by_truncation_is_never_drawn"),
    20: ("lost life resets the game", "test_a_lost_life_ends_what_is_learned_and_not_the_game"),
    21: ("lost life ends an evaluation", "test_evaluation_plays_whole_games_and_lives_change"),
    22: ("book-keeping of lives", "test_one_life_to_none_is_a_loss_although_the_game_is_not_over"),
    23: ("reward clipped before summed", "test_reward_is_the_raw_sum_of_the_4_frames"),
    24: ("action repeated 16 times", "test_real_steps_are_4_frames_and_real_no_ops_one"),
    25: ("sticky actions by accident", "test_sticky_actions_are_those_of_the_id"),
    26: ("all 18 actions", "test_actions_are_the_minimal_set_of_the_game"),
    27: ("no-ops as agent steps", "test_a_game_starts_with_1_to_30_single_no_op_frames"),
    28: ("FIRE pressed on reset", "test_a_step_is_4_emulator_frames_of_one_action"),
    29: ("epsilon in frames", "test_epsilon_of_the_nature_setting"),
    30: ("learning before the warm-up ends", "test_no_update_before_learning_starts"),
    31: ("unit of the target period", "test_target_is_copied_at_multiples_of_its_period"),
    32: ("target not copied or shared", "test_training_starts_with_an_equal_target_network"),
    33: ("clipped loss has no slope", "test_the_slope_at_a_chosen_action_is_its_error"),
    34: ("half, mean and sum", "test_the_slope_at_a_chosen_action_is_its_error"),
    35: ("another RMSProp", "test_rmsprop_of_a_mean_loss_is_the_released_rule"),
    36: ("gradient through the target", "test_the_gradient_of_a_linear_network_agrees"),
    37: ("B x B by broadcasting", "test_the_chosen_values_have_the_shape_of_the_batch"),
    38: ("random action never greedy", "test_random_actions_are_uniform_and_include_the_greedy"),
    39: ("items never drawn", "test_every_valid_transition_is_drawn_equally_often"),
    40: ("replay that grows", "test_the_buffer_and_the_time_per_add_do_not_grow"),
    41: ("layout of the convolutions", "test_every_intermediate_shape"),
    42: ("evaluation disturbs training", "test_evaluation_does_not_change_training"),
    43: ("what is reported", "test_every_finished_game_has_one_row_at_its_own_agent_step"),
    44: ("one seed for all", "test_game_i_is_seeded_with_seed_plus_i"),
    45: ("integer arithmetic", "test_epsilon_falls_strictly_and_only_between_its_ends"),
}


def test_every_pitfall_has_a_test():
    tests = "\n".join(path.read_text() for path in Path(__file__).parent.glob("test_*.py"))
    names = re.findall(r"^def (test_\w+)\(", tests, re.M)
    assert list(PITFALLS) == list(range(1, 46))
    for pitfall, name in PITFALLS.values():
        assert any(n.startswith(name) for n in names), pitfall
