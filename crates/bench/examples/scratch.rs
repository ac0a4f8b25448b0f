//! temp
use std::time::Duration;
use std::sync::atomic::{AtomicU64,Ordering};
use hyper::{Request,Response,body::Incoming,service::service_fn,server::conn::http1};
use http_body_util::{Full,BodyExt};
use hyper_util::rt::TokioIo;
static N: AtomicU64=AtomicU64::new(0);
fn main(){
 let a:Vec<String>=std::env::args().collect();
 let rt=tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
 if a[1]=="serve"{
  let delay:u64=a[2].parse().unwrap();
  rt.block_on(async{ let l=tokio::net::TcpListener::bind("127.0.0.1:7999").await.unwrap();
   loop{ let (s,_)=l.accept().await.unwrap(); s.set_nodelay(true).unwrap(); tokio::spawn(http1::Builder::new().serve_connection(TokioIo::new(s),service_fn(move |r:Request<Incoming>| async move{
     if r.uri().path()=="/metrics"{ return Ok::<_,hyper::Error>(Response::new(Full::<hyper::body::Bytes>::new("x 1\n".into())))}
     let wait=r.uri().query().is_some();
     r.into_body().collect().await?;
     let n=N.fetch_add(1,Ordering::Relaxed);
     if wait && delay>0 { let d= if n%3001==3000 {delay*12} else {delay + n%7}; tokio::time::sleep(Duration::from_millis(d)).await;}
     let mut r=Response::new(Full::<hyper::body::Bytes>::new(format!("{{\"status\":\"complete\",\"reply\":\"echo: hello there friend\",\"turn_id\":\"0192-{n}\",\"message_ids\":[\"a\"],\"session\":\"default:default:api:dm:u\"}}").into()));
     if !wait {*r.status_mut()=hyper::StatusCode::ACCEPTED;}
     Ok(r)
   })));}
  });
 } else {
  let g=|i:usize,d:u64| a.get(i).map_or(d,|s|s.parse().unwrap());
  let p=turnkeep_bench::Plan{users:g(3,1000) as usize,messages:Some(g(4,20)),delay_ms:g(5,50),wait:g(6,1)==1,burst:g(7,1),burst_gap_ms:g(8,0),server_pid:Some(a[2].parse().unwrap()),flood_connections: (g(9,0)>0).then_some(g(9,0) as usize),ramp:Duration::from_millis(g(10,0)),picture:Some("/tmp/run.svg".into()),..Default::default()};
  let r=rt.block_on(turnkeep_bench::run(&p,"127.0.0.1:7999".parse().unwrap())).unwrap();
  println!("{r}");
 }
}
