"""What every optimizer has: parameter groups, step() and a state dict.

The state of a group (a momentum, say) is one 1-D buffer over all its parameters, so that an
update is a single pass wherever the parameters lie together in memory.
"""

import copy
import math
from collections.abc import Callable, Iterable, Iterator, Mapping
from numbers import Real
from typing import Any, ClassVar, NamedTuple

import numpy as np

from manual.arrays import as_if, host
from manual.nn.module import overflowing
from manual.nn.parameter import Parameter, arrangement, stretches, zero_grad
from manual.nn.workspace import Reuses

KERNELS = {"foreach", "fused", "capturable", "differentiable", "param_names"}


class Optimizer(Reuses):
    """An update of parameters from their gradients.

    params: parameters, or dicts {"params": …, "lr": …, …} whose options override the others.
    `param_groups[k]["lr"] = …` changes an option between steps. A parameter whose grad is None
    is left alone, with its state.

    An optimizer of your own hands its options with their defaults to `__init__` and defines
    `_update`; `_buffers` and `_needed` where it keeps a state, `_limits` for its options.
    """

    _buffers: ClassVar[tuple[str, ...]] = ()  # the state it may keep of a parameter, by name
    _counts = True  # whether "step", the number of updates, belongs to that state
    _limits: ClassVar[dict[str, tuple[float, float]]] = {}  # option → lowest, and all are below

    def __init__(
        self, params: Iterable[Parameter] | Iterable[dict[str, Any]], defaults: dict[str, Any]
    ) -> None:
        if isinstance(params, Parameter):
            raise TypeError(
                "params must be an iterable of parameters or of dicts, got one Parameter"
            )
        given = list(params)
        if not given:
            raise ValueError("the optimizer got no parameters")
        self.defaults = defaults
        self._check(defaults)
        self.param_groups: list[dict[str, Any]] = []
        self._states: list[Any] = []
        for group in given if isinstance(given[0], dict) else [{"params": given}]:
            self.add_param_group(group)

    def add_param_group(self, param_group: dict[str, Any]) -> None:
        """Add {"params": …, and any of the options}. Raises TypeError for what is no dict or no
        Parameter; ValueError for an unknown option, a bad value, no parameter, parameters of
        several dtypes and a parameter that the optimizer has already."""
        if not isinstance(param_group, dict):
            raise TypeError(f"a parameter group is a dict, got {type(param_group).__name__}")
        unknown = param_group.keys() - self.defaults.keys() - {"params", "initial_lr"}
        if unknown or "params" not in param_group:
            raise ValueError(
                f"a parameter group has 'params' and any of {', '.join(self.defaults)}; "
                f"got {', '.join(map(repr, param_group))}"
            )
        own = param_group["params"]
        if isinstance(own, set):
            raise TypeError("a group's params need an order that stays, got a set")
        own = [own] if isinstance(own, Parameter) else list(own)
        seen = {id(p) for group in self.param_groups for p in group["params"]}
        for p in own:
            if not isinstance(p, Parameter):
                raise TypeError(f"an optimizer updates Parameters, got {type(p).__name__}")
            if id(p) in seen:
                raise ValueError(f"a parameter of shape {p.shape} was given twice")
            seen.add(id(p))
        if len({p.dtype for p in own}) != 1:
            raise ValueError("a parameter group needs parameters, all of one dtype")
        group = {**self.defaults, **param_group, "params": own}
        self._check(group)
        self.param_groups.append(group)
        self._states.append(self._fresh(group))

    def _fresh(self, group: dict[str, Any]) -> Any:
        return GroupState(group["params"])

    def zero_grad(self, set_to_none: bool = True) -> None:
        """Forget all gradients, or fill them with zeros. A backward overwrites gradients: this is
        for a parameter that the next backward does not reach."""
        for group in self.param_groups:
            zero_grad(group["params"], set_to_none)

    def step(self, closure: Callable[[], Any] | None = None) -> Any:
        """Update the parameters from their gradients, which stay as they are.

        closure: called first, to compute loss and gradients anew. Returns its loss, or None.
        """
        loss = None if closure is None else closure()
        for group, state in zip(self.param_groups, self._states, strict=True):
            self._step(group, state)
        return loss

    # g² may overflow where the update does not (g/√g²), and a weight that becomes infinite is for
    # who trains to notice, as in torch. What makes a NaN still warns.
    @overflowing
    def _step(self, group: dict[str, Any], state: "GroupState") -> None:
        found = arrangement(group["params"])
        if group != state.given or found != state.arrangement:
            state.arrangement = None  # should one of the next two lines be interrupted
            self._look_at_options(group, state)
            self._find_pieces(group, state)
            state.arrangement = found
        for piece in state.pieces:
            updates = (state.steps[piece.indices[0]] or 0) + 1
            self._update(piece.data, piece.grad, piece.state, updates, state.options)
        for piece in state.pieces:
            for i in piece.indices if piece.state else ():
                state.steps[i] = (state.steps[i] or 0) + 1

    def _look_at_options(self, group: dict[str, Any], state: "GroupState") -> None:
        """Check them and keep them as numbers, where one has changed."""
        params = group["params"]
        dtype = params[0].dtype
        if group != state.given or dtype != state.dtype:
            self._check(group)
            given = {name: value for name, value in group.items() if name != "params"}
            state.dtype, state.options = dtype, _numbers(given, dtype)
            state.given = {**copy.deepcopy(given), "params": list(params)}

    def _find_pieces(self, group: dict[str, Any], state: "GroupState") -> None:
        """The pieces that one update each will do for: parameters with a gradient that lie together
        and were updated equally often."""
        params, names = group["params"], self._needed(group)
        if len(params) != len(state.steps):
            raise ValueError(
                f"{type(self).__name__}: a group has {len(params)} parameters now, and had "
                f"{len(state.steps)}; add_param_group adds parameters"
            )
        buffers = state.prepare(names, params[0].dtype)
        keys = [
            None if p.grad is None else (n or 0) for p, n in zip(params, state.steps, strict=True)
        ]
        state.pieces, offset = [], 0
        for data, grad, indices in stretches(params, keys):
            own = slice(offset, offset + data.size)
            offset = own.stop
            if keys[indices[0]] is not None:
                self.follow(data)
                kept = {name: buffers[name][own] for name in names}
                state.pieces.append(Piece(data, grad, indices, kept))

    def _update(
        self,
        theta: np.ndarray,
        grad: np.ndarray,
        state: dict[str, np.ndarray],
        step: int,
        group: dict[str, Any],
    ) -> None:
        """The formula, in place, over a stretch of parameters (1-D); grad must not change.

        state: the buffers `_needed` names, likewise; all 0 before the first update. step: the
        number of this update, from 1. group: the options.
        """
        raise NotImplementedError(f"{type(self).__name__} has no _update")

    def _gradient(self, theta: np.ndarray, grad: np.ndarray, group: dict[str, Any]) -> np.ndarray:
        """The g that most formulas begin with: grad, −grad with maximize, then + weight_decay · θ.

        It may be grad itself and must not be changed.
        """
        if not group["weight_decay"]:
            return np.negative(grad, out=self._work(theta)) if group["maximize"] else grad
        g = np.multiply(group["weight_decay"], theta, out=self._work(theta))
        return np.subtract(g, grad, out=g) if group["maximize"] else np.add(g, grad, out=g)

    def _work(self, theta: np.ndarray) -> np.ndarray:
        """An array to work with, as large as theta."""
        return self.new_empty(theta.shape, theta.dtype)

    def _needed(self, group: Mapping[str, Any]) -> tuple[str, ...]:
        """Those of `_buffers` that the group's options call for."""
        return self._buffers

    def _check(self, group: Mapping[str, Any]) -> None:
        """Raise TypeError or ValueError for an option that has no sense."""
        for name, (low, high) in self._limits.items():
            check_number(f"{type(self).__name__}: {name}", group[name], low, high)

    def state_dict(self) -> dict[str, Any]:
        """{"state": {number of a parameter: its state by name}, "param_groups": [the options, and
        in "params" the numbers of the parameters]}, in torch's layout, with arrays for
        tensors; copies, on the CPU."""
        state, groups, first = {}, [], 0
        for group, own in zip(self.param_groups, self._states, strict=True):
            state |= {first + i: entry for i, entry in self._entries(group, own)}
            last = first + len(group["params"])
            groups.append({**group, "params": list(range(first, last))})
            first = last
        return {"state": state, "param_groups": groups}

    def _entries(
        self, group: dict[str, Any], state: "GroupState"
    ) -> Iterator[tuple[int, dict[str, Any]]]:
        """(place in the group, state) of each parameter that has one."""
        buffers, offset = state.prepare(self._needed(group), group["params"][0].dtype), 0
        for i, (p, steps) in enumerate(zip(group["params"], state.steps, strict=True)):
            own = slice(offset, offset + p.size)
            if steps is not None:
                counted = {"step": steps} if self._counts else {}
                yield i, counted | {n: host(p.shaped(b[own])).copy() for n, b in buffers.items()}
            offset += p.size

    def load_state_dict(self, state_dict: Mapping[str, Any]) -> None:
        """Take over options and state from what `state_dict` gave, here or in torch (tensors on
        the CPU); numbers are converted to the parameters' dtype.

        Raises ValueError, and changes nothing, where the groups, the names of the options or of
        the state, or a shape differ, or a value is bad.
        """
        who = f"{type(self).__name__}: the state dict"
        if not {"state", "param_groups"} <= state_dict.keys():
            raise ValueError(f"{who} needs 'state' and 'param_groups', got {list(state_dict)}")
        groups = [dict(group) for group in state_dict["param_groups"]]
        found = [len(group["params"]) for group in groups]
        expected = [len(group["params"]) for group in self.param_groups]
        if found != expected:
            raise ValueError(f"{who} has groups of {found} parameters, expected {expected}")
        numbers = [i for group in groups for i in group["params"]]
        strangers = sorted(set(state_dict["state"]) - set(numbers))
        if strangers:
            raise ValueError(f"{who} has a state for {strangers}, its parameters are {numbers}")
        options, states = [], []
        for own, group in zip(self.param_groups, groups, strict=True):
            given = {k: v for k, v in group.items() if k not in {"params", *KERNELS}}
            if given.keys() - {"initial_lr"} != self.defaults.keys():
                raise ValueError(
                    f"{who} has the options {', '.join(given)}, expected {', '.join(self.defaults)}"
                )
            self._check(given)
            new = {**given, "params": own["params"]}
            entries = [dict(state_dict["state"].get(i, {})) for i in group["params"]]
            options.append(given)
            states.append(self._loaded(new, entries, who))
        for own, given in zip(self.param_groups, options, strict=True):
            own.update(given)
        self._states = states

    def _loaded(self, group: dict[str, Any], entries: list[dict[str, Any]], who: str) -> Any:
        """The state that `_entries` gave, {} where a parameter had none."""
        params = group["params"]
        counted, offset = {"step"} if self._counts else set(), 0
        needed, known = {*self._needed(group), *counted}, {*self._buffers, *counted}
        state = self._fresh(group)
        for i, (p, entry) in enumerate(zip(params, entries, strict=True)):
            entry = {name: value for name, value in entry.items() if value is not None}
            if entry and not needed <= entry.keys() <= known:
                raise ValueError(
                    f"{who} has {sorted(entry)} for parameter {i} of a group, "
                    f"expected {sorted(needed)}"
                )
            for name in entry.keys() - counted:
                value = array_of(f"{who}: {name} of parameter {i} of a group", entry[name], p.shape)
                buffers = state.prepare((name,), p.dtype)
                own = p.shaped(buffers[name][offset : offset + p.size])
                own[...] = as_if(own, value)
            if entry:
                steps = entry.get("step", 1)
                check_number(f"{who}: step", float(steps), 0)
                state.steps[i] = int(steps)
            offset += p.size
        return state


class Piece(NamedTuple):
    """Parameters that one update does for. data, grad: their values and gradients, 1-D; indices:
    theirs in the group; state: of each buffer what belongs to them, 1-D."""

    data: np.ndarray
    grad: np.ndarray
    indices: range
    state: dict[str, np.ndarray]


class GroupState:
    """What an optimizer keeps of a group: by name, one 1-D buffer over all its parameters in
    their order (each in its own memory order), and each one's number of updates.

    steps: None for a parameter that has no state yet.
    """

    def __init__(self, params: list[Parameter]) -> None:
        self.first, self.size = params[0], sum(p.size for p in params)
        self.steps: list[int | None] = [None] * len(params)
        self.buffers: dict[str, np.ndarray] = {}
        self.dtype: np.dtype | None = None  # of the last step's parameters
        self.given: dict[str, Any] = {}  # the last step's group
        self.options: dict[str, Any] = {}  # its options as numbers
        self.arrangement: tuple[object, list[bool]] | None = None  # when the pieces were found
        self.pieces: list[Piece] = []

    # In a copy or a pickle the pieces would be arrays of their own.
    def __getstate__(self) -> dict[str, Any]:
        return vars(self) | {"arrangement": None, "pieces": []}

    def prepare(self, names: Iterable[str], dtype: np.dtype) -> dict[str, np.ndarray]:
        """All buffers, also those named, in dtype and where the parameters are: the network may
        have been converted or moved since."""
        data = self.first.data
        for name in names:
            if name not in self.buffers:
                self.buffers[name] = np.zeros(self.size, dtype)
        for name, buffer in self.buffers.items():
            self.buffers[name] = as_if(data, buffer).astype(dtype, copy=False)
        return self.buffers


def check_number(what: str, value: Any, low: float = -math.inf, high: float = math.inf) -> None:
    """Raise TypeError for what is no real number, ValueError unless low <= value < high; neither
    NaN nor an infinity passes."""
    if not isinstance(value, Real):
        raise TypeError(f"{what} must be a number, got {value!r}")
    if not (low <= value < high and math.isfinite(value)):
        limit = f" >= {low:g}" if math.isfinite(low) else ""
        limit += f" and < {high:g}" if math.isfinite(high) else ""
        raise ValueError(f"{what} must be a finite number{limit}, got {value!r}")


def array_of(what: str, value: Any, shape: tuple[int, ...]) -> np.ndarray:
    """The value as an array. Raises ValueError unless it is one of real numbers of that shape."""
    array = np.asarray(host(value))
    if array.shape != shape or array.dtype.kind not in "fiu":
        raise ValueError(
            f"{what} has shape {array.shape} and dtype {array.dtype}, "
            f"expected shape {shape} and real numbers"
        )
    return array


def _numbers(given: dict[str, Any], dtype: np.dtype) -> dict[str, Any]:
    """The options as Python numbers: one of NumPy's would change the dtype of what it multiplies.
    For longdouble parameters as longdouble, or 1 − β would not be as precise as the rest."""
    real = np.longdouble if dtype == np.longdouble else float

    def number(value: Any) -> Any:
        if isinstance(value, tuple | list):
            return tuple(number(v) for v in value)
        return real(value) if isinstance(value, Real) and not isinstance(value, bool) else value

    return {name: number(value) for name, value in given.items()}
