/** Whether each step of the strategy is one of whole passes over all examples, which it counts as iterations. */
export const takesWholePasses = ({ name }: { readonly name?: unknown }): boolean =>
  name === 'gradient-descent' || name === 'sandblaster'
