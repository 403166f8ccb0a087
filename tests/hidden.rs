//! Hidden states of a student beside its teacher's: the term, its gradients, what is kept of it and what is refused.

use burn::module::{Module, ModuleMapper, Param};
use burn::optim::GradientsParams;
use burn::tensor::Tensor;
use limbeck_config::{Architecture, HiddenDistance, ModelConfig, OptimizerSection, Recompute};
use limbeck_data::Batch;
use limbeck_kernels::{Precision, linear_composed};
use limbeck_loss::{DivergenceLoss, MixedLoss};
use limbeck_model::{Forward, NamedTensors, Transformer, load_tensors, parameters};
use limbeck_train::{
    AdamW, AlignmentTrainer, Distillation, HiddenAlignment, Learner, Objective, StepGradients, Teacher, Trainer,
};

use crate::support::batches::documents;
use crate::support::devices::cpu;
use crate::support::distance::{farthest, named, values};
use crate::support::files::{hashes, names};
use crate::support::models::small;
use crate::support::outcome::Outcome;
use crate::support::sandbox::Sandbox;

const ROWS: usize = 4;
const SEQUENCE_LENGTH: usize = 31;
/// Targets that count in each row.
const TARGETS: [usize; ROWS] = [1, 29, 0, 13];
const WEIGHT: f64 = 0.7;
const KINDS: [HiddenDistance; 2] = [HiddenDistance::Cosine, HiddenDistance::Mse];
/// The student's second block twice; the teacher's blocks in no order.
const PAIRS: [(usize, usize); 3] = [(1, 2), (0, 0), (1, 1)];
const LAST: &str = "step-00000012";
const HIDDEN: &str = "distill.hidden={kind=\"cosine\", weight=0.5}";

fn shape(hidden_size: usize, num_hidden_layers: usize) -> ModelConfig {
    ModelConfig { hidden_size, num_hidden_layers, ..small(Architecture::Qwen3) }
}

/// Matrices that are large enough for states to differ from each other.
fn model(shape: &ModelConfig, seed: u64) -> Transformer {
    Transformer::new(shape, seed, &cpu().autodiff()).map(&mut Scaled)
}

struct Scaled;

impl ModuleMapper for Scaled {
    fn map_float<const D: usize>(&mut self, parameter: Param<Tensor<D>>) -> Param<Tensor<D>> {
        parameter.map(|value| {
            let value = value.inner();
            (if D == 1 { value } else { value * 10.0 }).autodiff().require_grad()
        })
    }
}

fn batch() -> Batch {
    let batch = documents(17, ROWS, SEQUENCE_LENGTH, small(Architecture::Qwen3).vocab_size);
    let loss_mask = TARGETS.iter().flat_map(|count| (0..SEQUENCE_LENGTH).map(move |token| token < *count)).collect();
    Batch { loss_mask, ..batch }
}

fn distillation(teacher: &Transformer, ce_weight: f64) -> Distillation {
    let teacher = Teacher::Online(Box::new(teacher.clone().without_autodiff()));
    Distillation { teacher, loss: MixedLoss { divergence: DivergenceLoss::forward_kl(), ce_weight } }
}

fn alignment(kind: HiddenDistance, pairs: &[(usize, usize)], sizes: (usize, usize)) -> HiddenAlignment {
    HiddenAlignment::new((kind, WEIGHT), pairs.to_vec(), sizes, 3, &cpu().autodiff())
}

fn trainer(model: &Transformer, alignment: Option<HiddenAlignment>) -> anyhow::Result<Trainer> {
    let optimizer = || AdamW::new(&OptimizerSection::new(1e-3));
    let alignment =
        alignment.map(|alignment| Ok::<_, anyhow::Error>(AlignmentTrainer { alignment, optimizer: optimizer()? }));
    Ok(Trainer { alignment: alignment.transpose()?, ..Trainer::new(model.clone(), optimizer()?) })
}

/// Student and teacher of other sizes.
fn pair() -> (Transformer, Transformer) {
    (model(&shape(26, 2), 5), model(&shape(34, 3), 6))
}

/// Gradients of the mean loss by the model, by the maps, and the sum of the losses.
fn gradients(
    trainer: &Trainer,
    objective: &Distillation,
    batches: &[Batch],
) -> anyhow::Result<(NamedTensors, NamedTensors, f32)> {
    let StepGradients { model, alignment, loss_sum, .. } = trainer.gradients(objective, batches)?;
    let of_maps = trainer.alignment.as_ref().map(|trainer| named(&trainer.alignment, &alignment));
    let loss_sum = loss_sum.map_or(0.0, |sum| values(sum)[0]);
    Ok((named(&trainer.model, &model), of_maps.unwrap_or_default(), loss_sum))
}

/// What a block gives at the rows with a target: `[targets, hidden_size]`.
fn states(model: &Transformer, batch: &Batch, block: usize) -> Tensor<2> {
    let (pass, stream) = Forward::begin(model, &batch.inputs, &batch.positions, batch.sequence_length);
    let stream = (0..=block).fold(stream, |stream, block| pass.block(block, stream));
    let rows: Vec<i32> = (0..).zip(&batch.loss_mask).filter(|(_, counts)| **counts).map(|(row, _)| row).collect();
    stream.flatten::<2>(0, 1).select(0, Tensor::from_ints(&rows[..], &cpu()))
}

/// The term as its definition stands, differentiated by Burn: the sum over the targets.
fn definition(kind: HiddenDistance, projected: Tensor<2>, teacher: Tensor<2>) -> Tensor<1> {
    match kind {
        HiddenDistance::Mse => {
            let size = teacher.dims()[1] as f64;
            (projected - teacher).square().sum() / size
        }
        HiddenDistance::Cosine => {
            let norm = |states: &Tensor<2>| states.clone().square().sum_dim(1).sqrt();
            let norms = norm(&projected) * norm(&teacher);
            let cosine = (projected * teacher).sum_dim(1) / norms;
            (cosine * -1.0 + 1.0).sum()
        }
    }
}

#[test]
fn the_term_is_the_definition_with_burns_gradients_by_model_and_maps() -> anyhow::Result<()> {
    let (student, teacher) = pair();
    let batch = batch();
    let objective = distillation(&teacher, 0.25);
    let targets = batch.target_tokens() as f32;
    for kind in KINDS {
        let aligned = trainer(&student, Some(alignment(kind, &PAIRS, (26, 34))))?;
        let maps = &aligned.alignment.as_ref().expect("given").alignment;
        let (of_model, of_maps, with) = gradients(&aligned, &objective, std::slice::from_ref(&batch))?;
        let (of_alone, _, without) = gradients(&trainer(&student, None)?, &objective, std::slice::from_ref(&batch))?;

        let weights = MapWeights::of(maps);
        let terms = PAIRS.iter().zip(weights.0).map(|((of_student, of_teacher), weight)| {
            let projected = linear_composed(states(&student, &batch, *of_student), weight, Precision::Fp32);
            definition(kind, projected, states(&teacher, &batch, *of_teacher).inner())
        });
        let term = terms.reduce(|sum, term| sum + term).expect("pairs") * (WEIGHT / PAIRS.len() as f64);
        let expected = values(term.clone().inner())[0];
        // The sum of three losses of 43 targets in 32 bits.
        assert!(((with - without) / expected - 1.0).abs() < 1e-4, "{kind:?}: {with} - {without}, {expected}");

        let mut expected = (term / targets).backward();
        let by_maps = named(maps, &GradientsParams::from_module(&mut expected, maps));
        let by_model = named(&student, &GradientsParams::from_module(&mut expected, &student));
        let (name, distance) = farthest(&of_maps, &by_maps);
        assert!(distance < 1e-4, "{kind:?}: {name} {distance}");
        let added = difference(&of_model, &of_alone, &by_model);
        let (name, distance) = farthest(&added, &by_model);
        // What the divergence's gradient, which is larger, leaves in 32 bits.
        assert!(distance < 1e-3, "{kind:?}: {name} {distance}");
    }
    Ok(())
}

/// `one - other`, of the tensors in `names`: blocks behind the last pair and the output have no part in the term.
fn difference(one: &NamedTensors, other: &NamedTensors, names: &NamedTensors) -> NamedTensors {
    let mut difference = one.clone();
    difference.retain(|name, _| names.contains_key(name));
    for (name, tensor) in &mut difference {
        tensor.values.iter_mut().zip(&other[name].values).for_each(|(value, other)| *value -= other);
    }
    difference
}

/// The maps as they are tracked.
struct MapWeights(Vec<Tensor<2>>);

impl MapWeights {
    fn of(maps: &HiddenAlignment) -> Self {
        let mut weights = Self(Vec::new());
        maps.visit(&mut weights);
        weights
    }
}

impl burn::module::ModuleVisitor for MapWeights {
    fn visit_float<const D: usize>(&mut self, parameter: &Param<Tensor<D>>) {
        let [rows, columns] = parameter.dims()[..] else { return };
        self.0.push(parameter.val().reshape([rows, columns]));
    }
}

#[test]
fn micro_batches_give_the_gradients_of_the_whole_batch() -> anyhow::Result<()> {
    let (student, teacher) = pair();
    let objective = distillation(&teacher, 0.25);
    for kind in KINDS {
        let trainer = trainer(&student, Some(alignment(kind, &PAIRS, (26, 34))))?;
        let (model, maps, loss) = gradients(&trainer, &objective, &[batch()])?;
        for size in [2, 1] {
            let (of_parts, maps_of_parts, loss_of_parts) =
                gradients(&trainer, &objective, &batch().micro_batches(size))?;
            // Roundings of sums in another order.
            for (name, distance) in [farthest(&of_parts, &model), farthest(&maps_of_parts, &maps)] {
                assert!(distance < 1e-6, "{kind:?} {size}: {name} {distance}");
            }
            assert!((loss_of_parts / loss - 1.0).abs() < 1e-6, "{kind:?} {size}: {loss_of_parts} {loss}");
        }
    }
    Ok(())
}

#[test]
fn states_of_blocks_that_are_computed_again_have_the_same_gradients() -> anyhow::Result<()> {
    let (student, teacher) = pair();
    let objective = distillation(&teacher, 0.25);
    for kind in KINDS {
        let kept = trainer(&student, Some(alignment(kind, &PAIRS, (26, 34))))?;
        let again = Trainer {
            recompute: Recompute::Block,
            ..trainer(&student, kept.alignment.as_ref().map(|trainer| trainer.alignment.clone()))?
        };
        let batches = batch().micro_batches(2);
        let (kept, again) = (gradients(&kept, &objective, &batches)?, gradients(&again, &objective, &batches)?);
        assert_eq!((kept.1, kept.2), (again.1, again.2), "{kind:?}");
        // A stream with a state has its three gradients summed in another order.
        let (name, distance) = farthest(&again.0, &kept.0);
        assert!(distance < 1e-6, "{kind:?}: {name} {distance}");
    }
    Ok(())
}

#[test]
fn a_student_that_is_its_teacher_has_no_loss_and_no_gradient() -> anyhow::Result<()> {
    let student = model(&shape(26, 2), 5);
    // The divergence has neither, so that nothing but the term is left.
    let objective = distillation(&student, 0.0);
    for kind in KINDS {
        let maps = alignment(kind, &[(0, 0), (1, 1)], (26, 26));
        let learner = Learner::new(&student, Some(&maps));
        assert_eq!(values(objective.loss(learner, &batch())?.loss_sum), [0.0], "{kind:?}");
        let trainer = trainer(&student, Some(maps))?;
        let (model, maps, _) = gradients(&trainer, &objective, &[batch()])?;
        for (name, tensor) in model.iter().chain(&maps) {
            assert!(tensor.values.iter().all(|value| *value == 0.0), "{kind:?}: {name}");
        }
        // Control: another block of the teacher.
        let crossed = alignment(kind, &[(0, 1)], (26, 26));
        let learner = Learner::new(&student, Some(&crossed));
        assert!(values(objective.loss(learner, &batch())?.loss_sum)[0] > 1e-3, "{kind:?}");
    }
    Ok(())
}

#[test]
fn a_loss_of_cross_entropy_and_hidden_states_alone_trains_too() -> anyhow::Result<()> {
    let (student, teacher) = pair();
    let objective = distillation(&teacher, 1.0);
    let loss = |alignment: Option<&HiddenAlignment>| -> anyhow::Result<f32> {
        let learner = Learner::new(&student, alignment);
        Ok(values(objective.loss(learner, &batch())?.loss_sum)[0])
    };
    let maps = alignment(HiddenDistance::Cosine, &PAIRS, (26, 34));
    let of_term = |ce_weight| -> anyhow::Result<f32> {
        let objective = distillation(&teacher, ce_weight);
        let sum = |alignment| -> anyhow::Result<f32> {
            Ok(values(objective.loss(Learner::new(&student, alignment), &batch())?.loss_sum)[0])
        };
        Ok(sum(Some(&maps))? - sum(None)?)
    };
    // The same term, whatever it is added to: sums of 43 targets in 32 bits.
    assert!((of_term(1.0)? - of_term(0.0)?).abs() < 1e-3);
    assert!(loss(Some(&maps))? > loss(None)? + 1.0);
    Ok(())
}

fn distill(sandbox: &Sandbox, arguments: &[&str], sets: &[&str]) -> anyhow::Result<Outcome> {
    let sets = sets.iter().flat_map(|set| ["--set", set]);
    sandbox.stage("distill", &arguments.iter().copied().chain(sets).collect::<Vec<_>>())
}

/// A run's last weights and optimizer.
fn outcome(sandbox: &Sandbox, run: &str) -> anyhow::Result<[String; 2]> {
    let hashes = hashes(&sandbox.path(run).join(LAST))?;
    Ok(["model.safetensors", "optimizer.safetensors"].map(|file| hashes[file].clone()))
}

#[test]
fn without_weight_a_student_and_with_any_its_control_are_those_without_the_section() -> anyhow::Result<()> {
    let sandbox = Sandbox::after(&["pretrain", "sft"])?;
    distill(&sandbox, &["--out", "without"], &[])?.complete()?;
    distill(&sandbox, &["--out", "zero"], &["distill.hidden={kind=\"mse\", weight=0.0}"])?.complete()?;
    distill(&sandbox, &["--out", "some"], &[HIDDEN])?.complete()?;
    assert_eq!(outcome(&sandbox, "zero")?, outcome(&sandbox, "without")?);
    assert_ne!(outcome(&sandbox, "some")?, outcome(&sandbox, "without")?);
    assert_eq!(names(&sandbox.path("zero").join(LAST))?, names(&sandbox.path("without").join(LAST))?);
    for (run, sets) in [("without-ce", &[][..]), ("some-ce", &[HIDDEN][..])] {
        distill(&sandbox, &["--control", "--out", run], sets)?.complete()?;
    }
    assert_eq!(outcome(&sandbox, "some-ce")?, outcome(&sandbox, "without-ce")?);
    Ok(())
}

#[test]
fn the_maps_are_beside_the_weights_and_never_among_them() -> anyhow::Result<()> {
    let sandbox = Sandbox::after(&["pretrain", "sft"])?;
    distill(&sandbox, &["--out", "without"], &[])?.complete()?;
    distill(&sandbox, &["--out", "some"], &[HIDDEN])?.complete()?;
    let tensors = |run: &str, file: &str| load_tensors(&sandbox.path(run).join(LAST).join(file));
    for file in ["model.safetensors", "optimizer.safetensors"] {
        let names = |run: &str| -> anyhow::Result<Vec<String>> { Ok(tensors(run, file)?.into_keys().collect()) };
        assert_eq!(names("some")?, names("without")?, "{file}");
    }
    let maps = tensors("some", "projection.safetensors")?;
    let shapes: Vec<(&str, &[usize])> = maps.iter().map(|(name, tensor)| (name.as_str(), &tensor.shape[..])).collect();
    // The student's one block of 14 with the last of the teacher's two, of 18.
    let name = "projections.0.weight";
    let [first, second] = ["first", "second"].map(|moment| format!("{name}.{moment}"));
    assert_eq!(shapes, [(name, &[18, 14][..]), (&first, &[252]), (&second, &[252])]);
    sandbox.stage("export-model", &["--out", "export", "--set", "export.from=some"])?.complete()?;
    let exported = hashes(&sandbox.path("export"))?;
    assert!(exported.keys().all(|name| !name.contains("projection")), "{exported:?}");
    Ok(())
}

#[test]
fn maps_learn_with_the_student() -> anyhow::Result<()> {
    let (student, teacher) = pair();
    let objective = distillation(&teacher, 0.0);
    let maps = alignment(HiddenDistance::Mse, &PAIRS, (26, 34));
    let before = parameters(&maps);
    let mut trainer = trainer(&student, Some(maps))?;
    let mut losses = Vec::new();
    for step in 1..=20 {
        let report;
        (trainer, report) = trainer.step(&objective, &[batch()], step, 1.0)?;
        losses.push(report.loss_nats);
    }
    let after = parameters(&trainer.alignment.expect("given").alignment);
    assert!(farthest(&after, &before).1 > 1e-2);
    assert!(losses[19] < 0.9 * losses[0], "{losses:?}");
    Ok(())
}

#[test]
fn what_cannot_be_aligned_is_refused() -> anyhow::Result<()> {
    let sandbox = Sandbox::after(&["pretrain", "sft"])?;
    let refused = |arguments: &[&str], sets: &[&str], fragments: &[&str]| -> anyhow::Result<()> {
        distill(&sandbox, &[&["--out", "refused"], arguments].concat(), sets)?.refused(2, fragments)?;
        assert_eq!(hashes(&sandbox.path("refused"))?.len(), 0);
        Ok(())
    };
    let captured = "needs a teacher that runs: captured logits say nothing of its hidden states";
    for arguments in [&[][..], &["--capture"]] {
        refused(arguments, &[HIDDEN, "teacher.logits=cache"], &["distill.hidden.weight is `0.5`", captured, "hint: "])?;
    }
    let layers = |layers: &str| format!("distill.hidden={{kind=\"mse\", weight=1.0, layers={layers}}}");
    let cases = [
        ("[[0, 2]]", "distill.hidden.layers.0 is `[0, 2]`, must name a block of the teacher under `2`"),
        ("[[0, 0], [1, 1]]", "distill.hidden.layers.1 is `[1, 1]`, must name a block of the student under `1`"),
        ("[]", "distill.hidden.layers is `[]`, must have a pair"),
        ("[[0, 1], [0]]", "distill.hidden.layers.1 is `[0]`, must be two blocks"),
        ("[[0, 1], [0, 1]]", "distill.hidden.layers.1 is `[0, 1]`, must not be there twice"),
        ("[[0, \"last\"]]", "distill.hidden.layers.0.1"),
    ];
    for (given, message) in cases {
        refused(&[], &[&layers(given)], &[message, "hint: "])?;
    }
    refused(
        &[],
        &["distill.hidden={kind=\"mse\", weight=-1.0}"],
        &["distill.hidden.weight is `-1.0`, must be a finite"],
    )?;
    refused(
        &[],
        &["distill.hidden={kind=\"l1\", weight=1.0}"],
        &["distill.hidden.kind is `\"l1\"`, must be one of `cosine`, `mse`"],
    )
}
