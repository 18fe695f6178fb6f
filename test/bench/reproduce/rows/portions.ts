/** How a synchronous batch is shared out: a portion for each volunteer, so that none waits while others work. */
export const portions = (batchSize: number, volunteers: number) => ({
  name: 'synchronous' as const,
  batchSize,
  portionSize: Math.ceil(batchSize / volunteers),
})
