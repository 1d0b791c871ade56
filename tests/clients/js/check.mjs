// @qdrant/js-client-rest fills, searches with a filter, updates and deletes.
import assert from 'node:assert/strict'
import { QdrantClient } from '@qdrant/js-client-rest'
import { QdrantClient as OlderClient } from 'older-js-client-rest'

const options = JSON.parse(process.argv[2])
const client = new QdrantClient({ url: options.url })
const olderClient = new OlderClient({ url: options.url })
const name = 'js'

assert.equal((await client.collectionExists(name)).exists, false)
await client.createCollection(name, { vectors: { size: 4, distance: 'Cosine' } })
await client.createPayloadIndex(name, { field_name: 'city', field_schema: 'keyword', wait: true })
await client.upsert(name, {
  wait: true,
  points: [
    { id: 1, vector: [0.9, 0.1, 0.1, 0.1], payload: { city: 'Berlin', n: 1 } },
    { id: 2, vector: [0.1, 0.9, 0.1, 0.1], payload: { city: 'London', n: 2 } },
    { id: 3, vector: [0.8, 0.3, 0.1, 0.1], payload: { city: 'London', n: 3 } },
  ],
})
const filter = { must: [{ key: 'city', match: { value: 'London' } }] }
const found = await client.query(name, { query: [1, 0, 0, 0], filter, with_payload: true })
assert.deepEqual(found.points.map((point) => point.id), [3, 2])
const older = await olderClient.search(name, { vector: [1, 0, 0, 0], filter, limit: 1 })
assert.equal(older[0].id, 3)
const groups = await client.queryGroups(name, { query: [1, 0, 0, 0], group_by: 'city' })
assert.deepEqual(groups.groups.map((group) => group.id), ['Berlin', 'London'])
assert.equal((await client.facet(name, { key: 'city' })).hits[0].value, 'London')
const recommended = await olderClient.recommend(name, { positive: [1], limit: 1 })
assert.equal(recommended[0].id, 3)

await client.setPayload(name, { payload: { city: 'Paris' }, points: [2], wait: true })
assert.equal((await client.retrieve(name, { ids: [2] }))[0].payload.city, 'Paris')
await client.updateCollection(name, { metadata: { owner: 'js' } })
assert.equal((await client.getCollection(name)).config.metadata.owner, 'js')
await client.updateCollectionAliases({
  actions: [{ create_alias: { collection_name: name, alias_name: 'js-alias' } }],
})
assert.equal((await client.count('js-alias')).count, 3)
const page = await client.scroll('js-alias', { order_by: { key: 'city' }, limit: 1 }).catch((e) => e)
assert.equal(page.status, 400)

await client.delete(name, { points: [1], wait: true })
assert.equal((await client.count(name)).count, 2)
await client.deleteCollection(name)
assert.equal((await client.getCollections()).collections.length, 0)
console.log('ok')
