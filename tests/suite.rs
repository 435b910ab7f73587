//! The test suite that every backend has to pass: one body in `suite/`, one test for each backend, `backend::body`.

mod common;

mod suite {
    pub mod anything;
    pub mod closed_forms;
    pub mod dense;
    pub mod dense_gradients;
    pub mod forms;
    pub mod gradients;
    pub mod methods;
    pub mod misuse;
    pub mod peers;
    pub mod planted;
    pub mod promises;
    pub mod properties;
    pub mod statuses;
}

on_backends!([cpu] {
    closed_forms: two_groups_without_bounds, equal_means_without_bounds, fair_input_is_untouched,
        one_sample_a_group, equal_groups_stay, all_beyond_their_bounds, mean_residual_by_hand, ratio_by_hand,
        weights_by_hand, clipping_by_hand, frozen_elements_by_hand, absent_groups_are_reported;
    dense: one_equality_by_hand, a_budget_by_hand, no_covariance_by_hand, means_as_dense_rows_equal_contrasts,
        the_dense_way_equals_the_cells_way, the_dense_way_back_equals_the_cells_way, rows_of_zeros,
        a_row_stated_twice, more_rows_than_samples, rows_over_frozen_elements, shared_coefficients_equal_repeated_ones,
        bad_coefficients_spoil_their_problem, coefficients_that_do_not_fit, no_cells_are_needed,
        the_scale_of_a_row_does_not_matter, tiny_coefficients_are_not_lost, nearly_infeasible_is_decided,
        heavy_samples_count_in_a_proof, what_scaling_rounds_away_proves_nothing,
        the_jacobian_of_dependent_rows_is_a_projection, the_order_of_rows_does_not_matter,
        raw_powers_of_large_values, both_methods_find_the_answer, means_are_dense_rows;
    dense_gradients: gradients_of_dependent_dense_rows;
    planted: planted_solutions_are_found, planted_solutions_are_found_in_every_storage;
    promises: bounds_hold_bit_for_bit, gap_never_exceeds_epsilon, excess_is_reported_as_measured,
        feasible_input_is_bit_identical, a_problem_does_not_see_its_batch, same_bits_on_any_number_of_threads,
        a_plan_may_be_used_in_another_pool, same_bits_in_repeated_runs, single_precision_agrees_with_double, random_problems_agree_with_double,
        public_types_can_cross_threads;
    gradients: gradient_to_predictions, gradient_to_element_bounds, gradient_to_weights, gradient_to_coefficients,
        gradient_to_labels, gradient_to_levels, gradient_to_epsilon_at_zero, gradient_to_row_bounds, gradients_by_hand,
        gradient_to_a_ratio_by_hand, scores_on_their_bounds_pass_gradients, equalities_hold_without_a_multiplier,
        duplicate_rows_share_their_gradient, two_forwards_before_one_backward, unwanted_gradients_are_empty,
        closed_forms_agree_with_the_general_way;
    statuses: bad_numbers, ids_out_of_range, infeasible_problems_come_with_a_proof,
        unreachable_labels_are_infeasible, contradictions_are_infeasible, feasibility_is_decided_rightly,
        the_iteration_limit_is_a_status, what_is_too_large_for_its_type_is_no_solution, statuses_have_names,
        infeasible_problems_can_be_relaxed, contradicting_dense_rows_can_be_relaxed, problems_over_cells_fall_back_to_admm;
    properties: projecting_twice_changes_nothing, distances_never_grow, the_jacobian_is_a_projection,
        the_order_of_samples_does_not_matter, the_order_of_groups_does_not_matter, reflection_does_not_matter,
        translation_does_not_matter, scaling_by_two_does_not_matter, scaling_the_weights_does_not_matter;
    methods: admm_agrees_with_double, admm_proves_and_relaxes, admm_answers_in_every_storage, admm_leaves_fair_inputs_alone,
        a_problem_by_admm_does_not_see_its_batch, gradients_do_not_know_the_method, settings_of_admm_change_no_answer;
    peers: answers_agree_with_clarabel;
    forms: shared_arrays_equal_repeated_ones, shared_groups_equal_repeated_ones, groups_and_strata_equal_cells,
        single_and_double_arrays_are_the_same, a_warm_start_saves_passes, a_wild_warm_start_does_no_harm,
        an_unusable_warm_start_is_survived;
    misuse: arrays_of_wrong_length, values_that_cannot_be_used, missing_inputs, batches_larger_than_planned,
        solutions_of_another_plan, backward_passes_that_do_not_fit, settings_out_of_range, plans_beyond_all_memory,
        constraints_that_make_no_sense, more_cells_than_a_device_takes;
    anything: no_input_panics, no_helper_panics, no_question_panics;
});

// Bodies that are not here are about f64 (differences, peers, misuse), which WGSL has not, or about what only the CPU falls
// back to.
on_backends!([wgpu] {
    closed_forms: two_groups_without_bounds, equal_means_without_bounds, fair_input_is_untouched,
        one_sample_a_group, equal_groups_stay, all_beyond_their_bounds, mean_residual_by_hand, ratio_by_hand,
        weights_by_hand, clipping_by_hand, frozen_elements_by_hand, absent_groups_are_reported;
    dense: one_equality_by_hand, a_budget_by_hand, rows_of_zeros, more_rows_than_samples, rows_over_frozen_elements,
        shared_coefficients_equal_repeated_ones, bad_coefficients_spoil_their_problem, both_methods_find_the_answer;
    planted: planted_solutions_are_found_in_every_storage;
    promises: bounds_hold_bit_for_bit, gap_never_exceeds_epsilon, excess_is_reported_as_measured,
        feasible_input_is_bit_identical, a_problem_does_not_see_its_batch, same_bits_on_any_number_of_threads,
        same_bits_in_repeated_runs, single_precision_agrees_with_double, random_problems_agree_with_double,
        public_types_can_cross_threads;
    gradients: gradients_by_hand, scores_on_their_bounds_pass_gradients, two_forwards_before_one_backward;
    statuses: bad_numbers, infeasible_problems_come_with_a_proof, feasibility_is_decided_rightly,
        the_iteration_limit_is_a_status, what_is_too_large_for_its_type_is_no_solution, statuses_have_names;
    methods: admm_agrees_with_double, admm_proves_and_relaxes, admm_answers_in_every_storage, admm_leaves_fair_inputs_alone,
        a_problem_by_admm_does_not_see_its_batch, gradients_do_not_know_the_method, settings_of_admm_change_no_answer;
    properties: projecting_twice_changes_nothing;
    forms: shared_arrays_equal_repeated_ones, groups_and_strata_equal_cells, single_and_double_arrays_are_the_same;
    misuse: plans_beyond_all_memory, constraints_that_make_no_sense, more_cells_than_a_device_takes;
    anything: no_input_panics, no_helper_panics, no_question_panics;
});

// The ways for large problems, on small ones: bodies over cells.
on_backends!([wgpu_tiles] {
    closed_forms: two_groups_without_bounds, equal_means_without_bounds, fair_input_is_untouched,
        one_sample_a_group, equal_groups_stay, all_beyond_their_bounds, mean_residual_by_hand, ratio_by_hand,
        weights_by_hand, clipping_by_hand, frozen_elements_by_hand, absent_groups_are_reported;
    planted: planted_solutions_are_found_in_every_storage;
    promises: gap_never_exceeds_epsilon, feasible_input_is_bit_identical, a_problem_does_not_see_its_batch,
        single_precision_agrees_with_double, random_problems_agree_with_double;
    gradients: scores_on_their_bounds_pass_gradients, two_forwards_before_one_backward;
    statuses: bad_numbers, infeasible_problems_come_with_a_proof, feasibility_is_decided_rightly,
        the_iteration_limit_is_a_status;
    properties: projecting_twice_changes_nothing;
    forms: shared_arrays_equal_repeated_ones, groups_and_strata_equal_cells, single_and_double_arrays_are_the_same;
    anything: no_input_panics;
});

// The CUDA kernels, on the CPU by emulation, and on a GPU where there is one. (No problem over cells falls back to ADMM there.)
on_backends!([cuda_emu, cuda] {
    closed_forms: two_groups_without_bounds, equal_means_without_bounds, fair_input_is_untouched,
        one_sample_a_group, equal_groups_stay, all_beyond_their_bounds, mean_residual_by_hand, ratio_by_hand,
        weights_by_hand, clipping_by_hand, frozen_elements_by_hand, absent_groups_are_reported;
    dense: one_equality_by_hand, a_budget_by_hand, no_covariance_by_hand, means_as_dense_rows_equal_contrasts,
        the_dense_way_equals_the_cells_way, the_dense_way_back_equals_the_cells_way, rows_of_zeros,
        a_row_stated_twice, more_rows_than_samples, rows_over_frozen_elements, shared_coefficients_equal_repeated_ones,
        bad_coefficients_spoil_their_problem, coefficients_that_do_not_fit, no_cells_are_needed,
        the_scale_of_a_row_does_not_matter, tiny_coefficients_are_not_lost, nearly_infeasible_is_decided,
        heavy_samples_count_in_a_proof, what_scaling_rounds_away_proves_nothing,
        the_jacobian_of_dependent_rows_is_a_projection, the_order_of_rows_does_not_matter,
        raw_powers_of_large_values, both_methods_find_the_answer, means_are_dense_rows;
    dense_gradients: gradients_of_dependent_dense_rows;
    planted: planted_solutions_are_found, planted_solutions_are_found_in_every_storage;
    promises: bounds_hold_bit_for_bit, gap_never_exceeds_epsilon, excess_is_reported_as_measured,
        feasible_input_is_bit_identical, a_problem_does_not_see_its_batch, same_bits_on_any_number_of_threads,
        same_bits_in_repeated_runs, single_precision_agrees_with_double, random_problems_agree_with_double,
        public_types_can_cross_threads;
    gradients: gradient_to_predictions, gradient_to_element_bounds, gradient_to_weights, gradient_to_coefficients,
        gradient_to_labels, gradient_to_levels, gradient_to_epsilon_at_zero, gradient_to_row_bounds, gradients_by_hand,
        gradient_to_a_ratio_by_hand, scores_on_their_bounds_pass_gradients, equalities_hold_without_a_multiplier,
        duplicate_rows_share_their_gradient, two_forwards_before_one_backward, unwanted_gradients_are_empty,
        closed_forms_agree_with_the_general_way;
    statuses: bad_numbers, ids_out_of_range, infeasible_problems_come_with_a_proof,
        unreachable_labels_are_infeasible, contradictions_are_infeasible, feasibility_is_decided_rightly,
        the_iteration_limit_is_a_status, what_is_too_large_for_its_type_is_no_solution, statuses_have_names,
        infeasible_problems_can_be_relaxed, contradicting_dense_rows_can_be_relaxed;
    properties: projecting_twice_changes_nothing, distances_never_grow, the_jacobian_is_a_projection,
        the_order_of_samples_does_not_matter, the_order_of_groups_does_not_matter, reflection_does_not_matter,
        translation_does_not_matter, scaling_by_two_does_not_matter, scaling_the_weights_does_not_matter;
    methods: admm_agrees_with_double, admm_proves_and_relaxes, admm_answers_in_every_storage, admm_leaves_fair_inputs_alone,
        a_problem_by_admm_does_not_see_its_batch, gradients_do_not_know_the_method, settings_of_admm_change_no_answer;
    peers: answers_agree_with_clarabel;
    forms: shared_arrays_equal_repeated_ones, shared_groups_equal_repeated_ones, groups_and_strata_equal_cells,
        single_and_double_arrays_are_the_same, a_warm_start_saves_passes, a_wild_warm_start_does_no_harm,
        an_unusable_warm_start_is_survived;
    misuse: arrays_of_wrong_length, values_that_cannot_be_used, missing_inputs, batches_larger_than_planned,
        solutions_of_another_plan, backward_passes_that_do_not_fit, settings_out_of_range, plans_beyond_all_memory,
        constraints_that_make_no_sense, more_cells_than_a_device_takes;
    anything: no_input_panics, no_helper_panics, no_question_panics;
});

#[test]
fn an_absent_device_says_why_and_is_skipped() {
    common::devices::run_on("abacus", |_| panic!("there is no such device"));
    assert!(common::devices::open("abacus").is_err_and(|reason| reason.contains("no such device")));
    for kind in ["cpu", "wgpu", "cuda"] {
        let listed = fairlayer::devices().into_iter().filter(|device| device.kind == kind);
        let reasons: Vec<_> = listed.map(|device| device.usable.err()).collect();
        match common::devices::open(kind) {
            Ok(device) => assert!(device.kind() == kind && reasons.contains(&None)),
            Err(reason) => assert!(!reasons.is_empty() && (reasons.contains(&Some(reason)) || kind == "wgpu")),
        }
    }
}
