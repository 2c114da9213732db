import { cephMissing, startCeph } from '../../support/ceph.ts';
import { s3ServerSuite } from './s3-server.ts';

s3ServerSuite("Ceph's radosgw", { skip: cephMissing, conditionalPut: 'honoured' }, startCeph);
