// Activations on vectors, for every instruction set. Included by kernels inside foreach_target.
#if defined(KVLAB_ELEMENTWISE_ACTIVATION_INL) == defined(HWY_TARGET_TOGGLE)
#ifdef KVLAB_ELEMENTWISE_ACTIVATION_INL
#undef KVLAB_ELEMENTWISE_ACTIVATION_INL
#else
#define KVLAB_ELEMENTWISE_ACTIVATION_INL
#endif

#include <hwy/contrib/math/math-inl.h>
#include <hwy/highway.h>

HWY_BEFORE_NAMESPACE();
namespace kvlab::kernels::HWY_NAMESPACE {

namespace hn = hwy::HWY_NAMESPACE;

// exp where the result neither overflows nor becomes subnormal; NaN gives some number.
template <class D, class V>
HWY_INLINE V bounded_exp(D d, V x) {
  return hn::Exp(d, hn::Min(hn::Max(x, hn::Set(d, -87.0F)), hn::Set(d, 87.0F)));
}

// x / (1 + e^-x). The numerator carries a NaN on.
template <class D, class V>
HWY_INLINE V silu(D d, V x) {
  return hn::Div(x, hn::Add(hn::Set(d, 1.0F), bounded_exp(d, hn::Neg(x))));
}

// x/2 (1 + tanh(u)) = x / (1 + e^-2u) with u = sqrt(2/pi) (x + 0.044715 x^3): no difference of
// close numbers, so that small results keep their digits.
template <class D, class V>
HWY_INLINE V gelu_tanh(D d, V x) {
  const V square = hn::Mul(x, x);
  const V inner = hn::Mul(x, hn::MulAdd(square, hn::Set(d, 0.044715F), hn::Set(d, 1.0F)));
  const V minus_2u = hn::Mul(inner, hn::Set(d, -1.5957691216057308F));
  return hn::Div(x, hn::Add(hn::Set(d, 1.0F), bounded_exp(d, minus_2u)));
}

// x Phi(x) with Phi(-|x|) = erfc(z)/2, z = |x| / sqrt(2), and erfc(z) = e^(-z^2) t Q(t), t = 1 / (1
// + 0.4 z). Q is a least-squares fit in t over z in [0, 10], made here; relative error below 7e-8.
template <class D, class V>
HWY_INLINE V gelu_erf(D d, V x) {
  const V one = hn::Set(d, 1.0F);
  const V magnitude = hn::Abs(x);
  const V t = hn::Div(one, hn::MulAdd(magnitude, hn::Set(d, 0.28284271247461903F), one));
  V q = hn::Set(d, 0.04126138881F);
  q = hn::MulAdd(q, t, hn::Set(d, -0.1403590868F));
  q = hn::MulAdd(q, t, hn::Set(d, 0.08406783463F));
  q = hn::MulAdd(q, t, hn::Set(d, 0.08787457726F));
  q = hn::MulAdd(q, t, hn::Set(d, 0.07981661044F));
  q = hn::MulAdd(q, t, hn::Set(d, 0.1933685106F));
  q = hn::MulAdd(q, t, hn::Set(d, 0.2018936488F));
  q = hn::MulAdd(q, t, hn::Set(d, 0.2264423019F));
  q = hn::MulAdd(q, t, hn::Set(d, 0.2256342762F));
  const V half_square = hn::Mul(hn::Mul(x, x), hn::Set(d, -0.5F));
  const V below = hn::Mul(hn::Set(d, 0.5F), hn::Mul(hn::Mul(t, q), bounded_exp(d, half_square)));
  return hn::Mul(x, hn::IfThenElse(hn::Lt(x, hn::Zero(d)), below, hn::Sub(one, below)));
}

// NOLINTNEXTLINE(google-readability-namespace-comments)
}  // namespace kvlab::kernels::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#endif  // per-target include guard
