"""What the experiment's sections are made of: their base, and the types of values that several keys have."""

from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, ValidationInfo, field_validator

FLOAT_BITS = 32


def _check_bits(bits: int) -> int:
    if 1 <= bits <= 8 or bits == FLOAT_BITS:
        return bits
    raise ValueError("bits are 1 to 8, or 32 for float; choose one of these")


Bits = Annotated[int, AfterValidator(_check_bits)]


def _check_orientation(letters: str) -> str:
    pairs = ("LR", "AP", "SI")
    if letters and (len(letters) != 3 or any(sum(letter in pair for letter in letters) != 1 for pair in pairs)):
        raise ValueError(
            "three letters, one of L and R, one of A and P, one of S and I, say where rows, columns and slices "
            "increase to; write RAS, for example, or nothing"
        )
    return letters


def _precision_word(value: Any) -> Any:
    return str(value) if type(value) is int else value  # YAML reads 32 as a number


def _check_crop(value: Any) -> Any:
    sides = value if isinstance(value, list) else [value]
    if not sides or any(type(side) is not int or side < 1 for side in sides):
        raise ValueError("sides are whole numbers from 1; write one, such as 192, or a list with one for each axis")
    return value


Crop = Annotated[int | list[int], BeforeValidator(_check_crop)]
Precision = Annotated[Literal["bf16", "32"], BeforeValidator(_precision_word)]
Orientation = Annotated[str, AfterValidator(_check_orientation)]


class Section(BaseModel):
    """A part of the experiment: keys that it does not know, infinities and NaN are refused."""

    model_config = ConfigDict(extra="forbid", allow_inf_nan=False)

    @field_validator("*", mode="before")
    @classmethod
    def _no_truth_for_a_number(cls, value: Any, info: ValidationInfo) -> Any:
        if isinstance(value, bool) and cls.model_fields[str(info.field_name)].annotation is not bool:
            raise ValueError("true and false are no value for this key; give a number or a word, as in the default")
        return value
