/** Elements of a tensor of this shape. */
export const elementsOf = (shape: readonly number[]): number =>
  shape.reduce((elements, dimension) => elements * dimension, 1)
