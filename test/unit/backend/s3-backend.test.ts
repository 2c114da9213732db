/** What servers say and how it is taken, by a server that says it on order. */

import assert from 'node:assert/strict';
import { createHash } from 'node:crypto';
import { describe, test } from 'node:test';
import type { ErrorCode } from '../../../src/core/errors.ts';
import { isStorageError } from '../../../src/core/errors.ts';
import { MiB } from '../../../src/core/units.ts';
import type { Answer, Asked } from '../../support/scripted-s3.ts';
import { refusal, scriptedS3 } from '../../support/scripted-s3.ts';

const fine: Answer = { status: 200 };
const body = Buffer.from('body');

const refusals: readonly (readonly [Answer, ErrorCode, RegExp?])[] = [
  [refusal(503, 'SlowDown'), 'unavailable'],
  [refusal(500, 'InternalError'), 'unavailable'],
  [refusal(502, 'Unheard'), 'unavailable'],
  [refusal(429, 'TooManyRequests'), 'unavailable'],
  [refusal(409, 'OperationAborted'), 'unavailable'],
  [refusal(400, 'RequestTimeout'), 'unavailable'],
  [refusal(507, 'InsufficientStorage'), 'no_space'],
  [refusal(403, 'QuotaExceeded'), 'no_space'],
  [refusal(403, 'AccessDenied'), 'read_only', /rights/],
  [refusal(403, 'SignatureDoesNotMatch'), 'invalid', /credentials/],
  [refusal(403, 'InvalidAccessKeyId'), 'invalid', /credentials/],
  [refusal(403, 'RequestTimeTooSkewed'), 'unavailable', /clock/],
  [refusal(301, 'PermanentRedirect'), 'invalid', /region/],
  [refusal(404, 'NoSuchBucket'), 'not_found'],
  [refusal(413, 'EntityTooLarge'), 'too_large'],
];

const failsWith = (code: ErrorCode, message = /^S3 /) => {
  return (error: unknown) => {
    assert.ok(isStorageError(error, code), String(error));
    assert.match(error.message, message);
    return true;
  };
};

describe('an S3 server that refuses', () => {
  for (const [answer, code, message] of refusals)
    test(`with ${answer.status} ${/<Code>(\w+)/.exec(answer.body ?? '')?.[1]}: ${code}`, async () => {
      await using server = await scriptedS3(() => answer);
      await assert.rejects(server.backend.bucket('one').put('key', body), failsWith(code, message));
    });

  test('asks for a pause, which goes with the error', async () => {
    await using server = await scriptedS3(() => refusal(503, 'SlowDown', { 'retry-after': '7' }));
    await assert.rejects(server.backend.bucket('one').get('key'), (error) => {
      assert.ok(isStorageError(error, 'unavailable'));
      assert.equal(error.detail?.['retryAfterMs'], 7000);
      return true;
    });
  });

  test('is one that is away, where nobody listens', async () => {
    const server = await scriptedS3(() => fine);
    await server[Symbol.asyncDispose]();
    await assert.rejects(server.backend.bucket('one').get('key'), failsWith('unavailable'));
  });

  test('is one that is away, where the answer is cut short', async () => {
    const answer = { status: 200, body: 'half of a body', cutAt: 4 };
    await using server = await scriptedS3(() => answer);
    await assert.rejects(server.backend.bucket('one').get('key'), failsWith('unavailable'));
  });
});

describe('an S3 server with ways of its own', () => {
  test('sends all where a range was asked for', async () => {
    await using server = await scriptedS3(() => ({ status: 200, body: '0123456789' }));
    const found = await server.backend.bucket('one').get('key', { offset: 3, length: 4 });
    assert.equal(Buffer.from(found).toString(), '3456');
  });

  test('refuses conditions, and gets puts without', async () => {
    const isConditional = ({ headers }: Asked) => headers['if-none-match'] === '*';
    await using server = await scriptedS3((asked) =>
      isConditional(asked) ? refusal(501, 'NotImplemented') : fine,
    );
    const bucket = server.backend.bucket('one');
    for (const key of ['a', 'b']) await bucket.put(key, body, { if: 'absent' });
    assert.deepEqual(server.asked.map(isConditional), [true, false, false]);
    assert.equal(server.backend.conditionalPut, 'refused');
  });

  test('wants Content-MD5 with a list of deletions', async () => {
    const listed = '<?xml version="1.0"?><DeleteResult></DeleteResult>';
    await using server = await scriptedS3(() => ({ status: 200, body: listed }));
    await server.backend.bucket('one').deleteMany(['a', 'b']);
    const [asked] = server.asked as [Asked];
    assert.equal(asked.method, 'POST');
    const digest = createHash('md5').update(asked.body).digest('base64');
    assert.equal(asked.headers['content-md5'], digest);
  });

  test('knows no lists of deletions, and deletes one by one from then on', async () => {
    await using server = await scriptedS3(({ method }) =>
      method === 'POST' ? refusal(501, 'NotImplemented') : { status: 204 },
    );
    const bucket = server.backend.bucket('one');
    await bucket.deleteMany(['a', 'b']);
    await bucket.deleteMany(['c', 'd']);
    const methods = server.asked.map(({ method }) => method);
    assert.deepEqual(methods, ['POST', 'DELETE', 'DELETE', 'DELETE', 'DELETE']);
  });

  test('refuses one of several deletions', async () => {
    const listed =
      '<?xml version="1.0"?><DeleteResult><Error><Key>b</Key><Code>AccessDenied</Code>' +
      '<Message>no</Message></Error></DeleteResult>';
    await using server = await scriptedS3(() => ({ status: 200, body: listed }));
    await assert.rejects(
      server.backend.bucket('one').deleteMany(['a', 'b']),
      failsWith('read_only'),
    );
  });
});

describe('a large body', () => {
  const large = Buffer.alloc(20 * MiB, 'large');
  const started =
    '<?xml version="1.0"?><InitiateMultipartUploadResult><UploadId>u1</UploadId>' +
    '</InitiateMultipartUploadResult>';
  const completed =
    '<?xml version="1.0"?><CompleteMultipartUploadResult><ETag>"all"</ETag>' +
    '</CompleteMultipartUploadResult>';
  const numberOf = ({ url }: Asked) => /partNumber=(\d+)/.exec(url)?.[1];
  const answer = (asked: Asked): Answer => {
    const part = numberOf(asked);
    if (part !== undefined) return { status: 200, headers: { etag: `"part ${part}"` } };
    if (asked.method === 'DELETE') return { status: 204 };
    return { status: 200, body: asked.url.includes('uploads') ? started : completed };
  };

  test('goes in parts, which are put together in order', async () => {
    await using server = await scriptedS3(answer);
    await server.backend.bucket('one').put('key', large);
    const parts = server.asked.filter((asked) => numberOf(asked) !== undefined);
    parts.sort((one, other) => Number(numberOf(one)) - Number(numberOf(other)));
    assert.ok(Buffer.concat(parts.map((part) => part.body)).equals(large));
    const last = server.asked.at(-1)?.body.toString() ?? '';
    const order = [...last.matchAll(/<PartNumber>(\d+)/g)].map((match) => match[1]);
    assert.deepEqual(order, ['1', '2', '3']);
  });

  test('is one request under a condition, which servers ignore at the end of parts', async () => {
    await using server = await scriptedS3(answer);
    await server.backend.bucket('one').put('key', large, { if: 'absent' });
    assert.equal(server.asked.length, 1);
    assert.equal(server.asked[0]?.headers['if-none-match'], '*');
  });

  test('of which a part is refused fails, and its parts are given up', async () => {
    await using server = await scriptedS3((asked) =>
      numberOf(asked) === '2' ? refusal(503, 'SlowDown') : answer(asked),
    );
    const put = server.backend.bucket('one').put('key', large);
    await assert.rejects(put, failsWith('unavailable'));
    while (server.asked.at(-1)?.method !== 'DELETE') await new Promise(setImmediate);
    assert.match(server.asked.at(-1)?.url ?? '', /uploadId=u1/);
    const completions = server.asked.filter((asked) => asked.body.includes('PartNumber'));
    assert.deepEqual(completions, []);
  });
});
