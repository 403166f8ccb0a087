//! The heads of one row of a batch: norm and rotary embedding, forward and backward.

use std::borrow::Cow;

use crate::attention::HeadLayout;
use crate::rms_norm::reciprocal_rms;
use crate::simd::dot;

/// Weights of the norms of queries and keys.
#[derive(Clone, Copy)]
pub(crate) struct NormWeights<'a> {
    /// `[head_dim]`.
    pub(crate) query: &'a [f32],
    /// `[head_dim]`.
    pub(crate) key: &'a [f32],
    pub(crate) epsilon: f32,
}

/// A row's heads.
pub(crate) struct Heads<'a> {
    /// `[sequence_length, (num_attention_heads + 2 * num_key_value_heads) * head_dim]`.
    pub(crate) projected: Cow<'a, [f32]>,
    /// `[sequence_length, head_dim / 2]`.
    pub(crate) cosines: &'a [f32],
    /// As `cosines`.
    pub(crate) sines: &'a [f32],
    /// `[sequence_length]`: a query at `t` sees the keys `t - reach[t] ..= t`.
    pub(crate) reach: &'a [u32],
    pub(crate) layout: HeadLayout,
    pub(crate) norms: Option<NormWeights<'a>>,
}

/// One of the heads that are turned.
#[derive(Clone, Copy)]
pub(crate) enum Head {
    Query(usize),
    Key(usize),
}

impl<'a> Heads<'a> {
    pub(crate) fn sequence_length(&self) -> usize {
        self.reach.len()
    }

    /// Query heads that share a key head.
    pub(crate) fn group(&self) -> usize {
        self.layout.num_attention_heads / self.layout.num_key_value_heads
    }

    /// Values of a token.
    pub(crate) fn width(&self) -> usize {
        (self.layout.num_attention_heads + 2 * self.layout.num_key_value_heads) * self.layout.head_dim
    }

    /// The first key that a query sees.
    pub(crate) fn first_key(&self, query: usize) -> usize {
        query - (self.reach[query] as usize).min(query)
    }

    /// Where a head starts among a token's values.
    pub(crate) fn column(&self, head: Head) -> usize {
        let index = match head {
            Head::Query(index) => index,
            Head::Key(index) => self.layout.num_attention_heads + index,
        };
        index * self.layout.head_dim
    }

    /// Where a key head's values start among a token's values.
    pub(crate) fn value_column(&self, key_head: usize) -> usize {
        (self.layout.num_attention_heads + self.layout.num_key_value_heads + key_head) * self.layout.head_dim
    }

    /// Queries carry the factor `1 / √head_dim` of the scores.
    fn scale(&self, head: Head) -> f32 {
        match head {
            Head::Query(_) => (self.layout.head_dim as f32).sqrt().recip(),
            Head::Key(_) => 1.0,
        }
    }

    fn norm(&self, head: Head) -> Option<(&'a [f32], f32)> {
        self.norms.map(|norms| match head {
            Head::Query(_) => (norms.query, norms.epsilon),
            Head::Key(_) => (norms.key, norms.epsilon),
        })
    }

    /// Every token's `head`, normed, turned and scaled: `[sequence_length, head_dim]`.
    #[inline(always)]
    pub(crate) fn turned(&self, head: Head, target: &mut [f32]) {
        let (width, column, scale) = (self.layout.head_dim, self.column(head), self.scale(head));
        let norm = self.norm(head);
        for (token, target) in target.chunks_exact_mut(width).enumerate() {
            let source = &self.projected[token * self.width() + column..][..width];
            match norm {
                Some((weight, epsilon)) => {
                    let factor = reciprocal_rms(source, epsilon);
                    for ((target, value), weight) in target.iter_mut().zip(source).zip(weight) {
                        *target = weight * value * factor;
                    }
                }
                None => target.copy_from_slice(source),
            }
            self.turn(token, scale, 1.0, target);
        }
    }

    /// The gradient of `head` before norm and rotary embedding, from that behind them, which is overwritten. Adds to the
    /// gradient of the norm's weights.
    #[inline(always)]
    pub(crate) fn turned_backward(
        &self,
        head: Head,
        turned_gradient: &mut [f32],
        gradient: &mut [f32],
        weight_gradient: &mut [f32],
    ) {
        let (width, column, scale) = (self.layout.head_dim, self.column(head), self.scale(head));
        let norm = self.norm(head);
        for (token, upstream) in turned_gradient.chunks_exact_mut(width).enumerate() {
            self.turn(token, scale, -1.0, upstream);
            let place = token * self.width() + column;
            let (source, target) = (&self.projected[place..][..width], &mut gradient[place..][..width]);
            match norm {
                Some((weight, epsilon)) => {
                    let factor = reciprocal_rms(source, epsilon);
                    for ((sum, upstream), value) in weight_gradient.iter_mut().zip(&*upstream).zip(source) {
                        *sum += upstream * value * factor;
                    }
                    for (upstream, weight) in upstream.iter_mut().zip(weight) {
                        *upstream *= weight;
                    }
                    let correction = dot(upstream, source) * factor * factor * factor / width as f32;
                    for ((target, upstream), value) in target.iter_mut().zip(&*upstream).zip(source) {
                        *target = factor * upstream - correction * value;
                    }
                }
                None => target.copy_from_slice(upstream),
            }
        }
    }

    /// Turns a token's head by its angles and scales it; `direction` -1 turns back.
    #[inline(always)]
    fn turn(&self, token: usize, scale: f32, direction: f32, head: &mut [f32]) {
        let half = self.layout.head_dim / 2;
        let (first, second) = head.split_at_mut(half);
        let (cosines, sines) = (&self.cosines[token * half..][..half], &self.sines[token * half..][..half]);
        for i in 0..half {
            let (cosine, sine) = (scale * cosines[i], scale * direction * sines[i]);
            (first[i], second[i]) = (first[i] * cosine - second[i] * sine, second[i] * cosine + first[i] * sine);
        }
    }
}
