/** Every strategy, and every policy of Downpour, against the one contract. */
import { strategyContract } from '../support/strategy-contract.ts'

const downpour = (written: object = {}) => ({
  strategy: { name: 'downpour', batchSize: 2, pushEvery: 3, maxStaleness: 60, ...written },
})
const policy = (written: object) => downpour({ policy: written })

strategyContract('downpour', { ...downpour(), codec: { up: 'int8' }, updateRule: { name: 'adagrad' } })
strategyContract('downpour, a push each minibatch', downpour({ pushEvery: 1 }))
strategyContract('downpour, a fetch every three pushes', { ...downpour({ fetchEvery: 9 }), codec: { up: 'f16' } })
strategyContract('downpour, released by doubling', { ...downpour({ warmStart: 3 }), updateRule: { name: 'adam' } })
strategyContract('downpour, weights', policy({ weight: { name: 'power', exponent: 0.4 } }))
strategyContract('downpour, delayed momentum', { ...downpour(), updateRule: { name: 'delayed-nesterov', delay: 3 } })
strategyContract('downpour, a buffer', {
  ...policy({ buffer: 4, weight: { name: 'inverse' } }),
  schedule: { shape: 'cosine' },
  updateRule: { name: 'momentum' },
})
strategyContract('downpour, constant compensation', policy({ compensation: { lambda: 0.04, decay: null } }))
strategyContract('downpour, adaptive compensation in a buffer', policy({ compensation: {}, buffer: 3 }))
strategyContract('downpour, compensation of the little that is not cut off', {
  ...downpour({ maxStaleness: 2, policy: { compensation: {} } }),
  updateRule: { name: 'momentum', weightCost: 0.001 },
})
strategyContract('downpour, cut off at once', downpour({ maxStaleness: 0 }))
strategyContract('downpour, stale synchronous', policy({ bound: { name: 'stale-synchronous', clocks: 2 } }))
strategyContract('downpour, bulk synchronous', policy({ bound: { name: 'stale-synchronous', clocks: 0 }, buffer: 4 }))
strategyContract(
  'downpour, bulk synchronous, released by doubling',
  downpour({ warmStart: 3, policy: { bound: { name: 'stale-synchronous', clocks: 0 } } }),
)
strategyContract('downpour, bounded delay', policy({ bound: { name: 'bounded-delay', delay: 2 } }))
strategyContract('downpour, one after the other', policy({ bound: { name: 'bounded-delay', delay: 0 } }))
strategyContract('synchronous', {
  strategy: { name: 'synchronous', batchSize: 10, portionSize: 4 },
  schedule: { shape: 'linear' },
})
strategyContract('gradient-descent', {
  strategy: { name: 'gradient-descent', portionSize: 5, batchSize: 2, rate: 0.3, tolerance: 0 },
  stop: { epochs: 4 },
})
strategyContract('gradient-descent on samples', {
  strategy: { name: 'gradient-descent', portionSize: 5, fraction: 0.4, updater: 'l1', regularization: 0.01 },
  stop: { epochs: 6 },
})
strategyContract('sandblaster', {
  strategy: { name: 'sandblaster', portionSize: 5, batchSize: 2, memory: 3, l2: 0.01 },
  stop: { epochs: 5 },
})
strategyContract('sandblaster on blocks, without backups', {
  strategy: { name: 'sandblaster', portionSize: 6, batchSize: 3, average: 'blocks', backups: false },
  stop: { epochs: 5 },
})
